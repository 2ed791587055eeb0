"""How far a download is: what is told while bytes come in, with the rate and the time left."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

WINDOW_SECONDS = 10.0  # the rate is that of the last seconds, so that it follows the line


@dataclass(frozen=True)
class Transfer:
    """Bytes done of all that is to be done; `stage` is what happens to `file` now."""

    stage: Literal["fetch", "check"]
    file: str
    done_bytes: int
    total_bytes: int
    bytes_per_second: float | None
    remaining_seconds: float | None


@dataclass(frozen=True)
class Forecast:
    """What a download will take: bytes to fetch, bytes already here, and room on the disk they go to."""

    fetch_bytes: int
    here_bytes: int
    free_bytes: int
    folder: str


OnTransfer: TypeAlias = Callable[[Transfer], None]
OnForecast: TypeAlias = Callable[[Forecast], None]
OnNote: TypeAlias = Callable[[str], None]
ShouldStop: TypeAlias = Callable[[], bool]


class Meter:
    """Counts bytes of one download and tells of them."""

    def __init__(self, *, total_bytes: int, on_transfer: OnTransfer | None) -> None:
        self.done_bytes = 0
        self._total_bytes = total_bytes
        self._on_transfer = on_transfer
        self._marks: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def add(self, num_bytes: int, *, file: str) -> None:
        """So many more bytes have come (or, if negative, are lost)."""
        self.done_bytes += num_bytes
        now = time.monotonic()
        self._marks.append((now, self.done_bytes))
        while len(self._marks) > 2 and now - self._marks[0][0] > WINDOW_SECONDS:
            self._marks.popleft()
        self._tell("fetch", file)

    def skip(self, num_bytes: int) -> None:
        """Bytes that were here before; they count, but not for the rate."""
        self.done_bytes += num_bytes
        self._marks = deque([(time.monotonic(), self.done_bytes)])

    def checking(self, file: str) -> None:
        """A file is being checked."""
        self._tell("check", file)

    def _tell(self, stage: Literal["fetch", "check"], file: str) -> None:
        if self._on_transfer is None:
            return
        rate = self._rate()
        left = max(0, self._total_bytes - self.done_bytes)
        remaining = left / rate if rate else None
        self._on_transfer(Transfer(stage, file, self.done_bytes, self._total_bytes, rate, remaining))

    def _rate(self) -> float | None:
        (start, before), (end, after) = self._marks[0], self._marks[-1]
        return (after - before) / (end - start) if end > start and after > before else None
