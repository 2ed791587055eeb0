"""One worker process as its launcher sees it: started, listened to, asked to stop, killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from homereel.jobs.tether import STOP
from homereel.jobs.worker_death import death_reason, oom_kills

_MAX_LOG_BYTES = 1_000_000
_LAST_WORDS = 300


class WorkerProcess:
    """A running worker. `heard` is when it last said that it lives, by this process's monotonic clock."""

    def __init__(self, command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.started = self.heard = time.monotonic()
        self._log = log
        self._oom_kills = oom_kills()
        mode = "wb" if not log.exists() or log.stat().st_size > _MAX_LOG_BYTES else "ab"
        with log.open(mode) as errors:
            self._log_from = errors.tell()
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **(environment or {})},
                **OWN_GROUP,
            )
        self._listener = threading.Thread(target=self._listen, name=f"hears-{self.pid}", daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, or None while it lives."""
        return self._process.poll()

    def death(self) -> str:
        """Why it ended, once it has."""
        assert self._process.returncode is not None, "it lives"
        words = self._last_words()
        return death_reason(self._process.returncode, oom_kills_before=self._oom_kills, last_words=words)

    def ask_to_stop(self) -> None:
        """It gives its job back and ends; this does not wait for it."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(STOP)
            self._process.stdin.flush()

    def kill(self) -> None:
        """kill -9, which also ends one that is stopped; what it started goes with it."""
        if self._process.poll() is None:
            with suppress(OSError):
                if sys.platform == "win32":
                    self._process.kill()
                else:
                    os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Let go of a process that has ended."""
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        while os.read(self._process.stdout.fileno(), 4096):
            self.heard = time.monotonic()

    def _last_words(self) -> str:
        """The last line that it wrote to its log."""
        with suppress(OSError), self._log.open("rb") as file:
            file.seek(max(self._log_from, self._log.stat().st_size - 4096))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
            return lines[-1].strip()[:_LAST_WORDS] if lines else ""
        return ""


OWN_GROUP: dict[str, Any] = (
    {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    if sys.platform == "win32"
    else {"start_new_session": True}
)
"""For a child: a Ctrl-C in the terminal is for the process that started it, which ends its children in order."""
