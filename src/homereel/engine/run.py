"""One run of the engine as seen from outside: what it reports, whether it must stop, what its stages took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from homereel.core.errors import Stopped
from homereel.core.events import OnProgress, Preview, Progress, ShouldStop, Stage
from homereel.core.result import Timing


class Run:
    """Holds the caller's callbacks and a stopwatch a stage."""

    def __init__(self, *, on_progress: OnProgress | None, should_stop: ShouldStop | None) -> None:
        self._on_progress = on_progress
        self._should_stop = should_stop
        self._started = time.perf_counter()
        self._seconds: dict[Stage, float] = {}
        self._inner_seconds = 0.0

    def stop_point(self) -> None:
        """Raises Stopped if a stop was asked for."""
        if self._should_stop is not None and self._should_stop():
            raise Stopped("stopped as asked; no file was written")

    def report(
        self,
        stage: Stage,
        step: int,
        num_steps: int,
        *,
        remaining_seconds: float | None = None,
        preview: Preview | None = None,
    ) -> None:
        """Tell the caller where the run is."""
        if self._on_progress is not None:
            elapsed = time.perf_counter() - self._started
            self._on_progress(Progress(stage, step, num_steps, elapsed, remaining_seconds, preview))

    @contextmanager
    def stage(self, stage: Stage, *, num_steps: int = 1) -> Iterator[None]:
        """Time a part of a stage, and report its start and, unless it fails, its end."""
        self.stop_point()
        self.report(stage, 0, num_steps)
        with self.timed(stage):
            yield
        self.report(stage, num_steps, num_steps)

    @contextmanager
    def timed(self, stage: Stage) -> Iterator[None]:
        """Time a part of a stage; what is timed within it counts for its own stage only."""
        start, outer = time.perf_counter(), self._inner_seconds
        self._inner_seconds = 0.0
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self._seconds[stage] = self._seconds.get(stage, 0.0) + spent - self._inner_seconds
            self._inner_seconds = outer + spent

    def timing(self) -> Timing:
        """Seconds a stage, so far."""
        return Timing(**{f"{stage}_seconds": seconds for stage, seconds in self._seconds.items()})
