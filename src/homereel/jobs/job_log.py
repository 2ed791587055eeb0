"""The log of one job: a line for whatever its owner may want to know later, bounded in size."""

from __future__ import annotations

import traceback
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

MAX_BYTES = 1_000_000


class JobLog:
    """Appends to log.txt. A log that cannot be written stops no job."""

    def __init__(self, path: Path, *, worker: str) -> None:
        self._path, self._worker = path, worker

    def say(self, text: str) -> None:
        """One line, with the time and the worker's name."""
        self._write(" ".join(text.split()))

    def trace(self, error: BaseException) -> None:
        """An exception nobody expected, with where it came from."""
        self._write("".join(traceback.format_exception(error)).rstrip())

    def _write(self, text: str) -> None:
        line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {self._worker}: {text}\n"
        with suppress(OSError):
            if self._path.exists() and self._path.stat().st_size > MAX_BYTES:
                self._path.write_bytes(self._path.read_bytes()[-MAX_BYTES // 2 :])
            with self._path.open("a", encoding="utf-8", errors="replace") as file:
                file.write(line)
