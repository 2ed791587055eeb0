"""A real server on loopback, without a worker, in its own process: for what measures it or throws things at it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Served:
    """A server that runs, and where."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path  # what it said on stderr

    def cpu_seconds(self) -> float | None:
        """What it has taken of the processor since its start, where the system tells; unlike the clock, this tells the
        same on a machine that has much else to do.
        """
        status = Path(f"/proc/{self.process.pid}/stat")
        if not status.exists():
            return None
        fields = status.read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def held(self) -> dict[str, int | None]:
        """Its memory, open handles and threads, where the system tells."""
        folder = Path(f"/proc/{self.process.pid}")
        if not folder.exists():
            return {"resident_bytes": None, "handles": None, "threads": None}
        pages = int((folder / "statm").read_text(encoding="ascii").split()[1])
        return {
            "resident_bytes": pages * os.sysconf("SC_PAGE_SIZE"),
            "handles": len(list((folder / "fd").iterdir())),
            "threads": len(list((folder / "task").iterdir())),
        }


@contextmanager
def served(data: Path) -> Iterator[Served]:
    """A server from its first word to its end."""
    log = data.with_suffix(".log")
    command = [sys.executable, "-m", "homereel.server", "--port", "0", "--workers", "0", "--data", str(data)]
    with log.open("w") as file, subprocess.Popen(command, stderr=file) as process:
        try:
            while "takes requests" not in log.read_text(encoding="utf-8"):
                if process.poll() is not None:
                    raise SystemExit(f"the server did not start: {log.read_text(encoding='utf-8')}")
                time.sleep(0.05)
            url = log.read_text(encoding="utf-8").split()[1]
            yield Served(process, int(url.rpartition(":")[2]), log)
        finally:
            process.terminate()
            process.wait()
