"""Workers forked from a process that has the engine imported: a killed one is followed by the next in a blink, where a
launcher's would import for seconds. They are `homereel.jobs.worker` as it is.

Usage: python benchmarks/forked_workers.py DATA. Each name on standard input starts a worker of that name, whose process
id is the answer; the end of the input ends all.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from homereel.jobs.store import JobStore


class ForkedWorkers:
    """One worker at a time, tended by whoever kills it. Use it as a context."""

    def __init__(self, store: JobStore, data: Path) -> None:
        self._store, self._data = store, data
        self._name, self._pid = "", 0
        self._count = 0

    def tend(self) -> None:
        """What a launcher does: take back what a dead worker held, and start another."""
        if self._pid and _lives(self._pid):
            return
        for held in self._store.leases():
            self._store.revoke(held.job_id, held.token, reason="its worker died")
        self._count += 1
        self._name = f"worker-{self._count}"
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{self._name}\n".encode())
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit("the process that forks workers has ended; see what it said above")
        self._pid = int(answer)

    def pid_of(self, worker: str) -> int | None:
        """The process of a worker that lives."""
        return self._pid if worker == self._name else None

    def __enter__(self) -> Self:
        command = [sys.executable, __file__, str(self._data)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pid and _lives(self._pid):
            os.kill(self._pid, signal.SIGKILL)
        self._process.communicate()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _serve(data: str) -> None:
    import homereel.engine.generate  # noqa: F401
    from homereel.jobs import worker
    from homereel.jobs.tether import die_with_parent

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # dead workers vanish at once
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            die_with_parent()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os._exit(worker.main(["--data", data, "--name", line.strip(), "--beat-seconds", "0.05"]))
        print(pid, flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1])
