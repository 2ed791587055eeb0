"""Renews a job's lease while the job is worked on, also in long steps, and learns what is wanted of it meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from homereel.core.errors import JobsError, LeaseLost
from homereel.jobs.records import Lease, Wanted
from homereel.jobs.store import JobStore

BEAT_SECONDS = 1.0
# A worker that slept for longer than this many beats makes sure of its lease before it writes anything.
_STALE_BEATS = 5


class Heartbeat:
    """A thread that beats until the context is left. `wanted` and `lost` are what the last beat learnt."""

    def __init__(
        self, store: JobStore, lease: Lease, *, say: Callable[[str], None], seconds: float = BEAT_SECONDS
    ) -> None:
        self.wanted: Wanted = "run"
        self.lost = False
        self._store, self._lease, self._say, self._seconds = store, lease, say, seconds
        self._told: dict[str, Any] = {}
        self._last = time.monotonic()
        self._ended = threading.Event()
        self._one_at_a_time = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"heartbeat-{lease.job.id}", daemon=True)

    def tell(self, **progress: Any) -> None:
        """What the next beat says of the job: stage, steps_done, num_steps, remaining_seconds."""
        self._told = {**self._told, **progress}

    def beat(self, **also: Any) -> None:
        """Renew now; `also` is said with this beat. Raises LeaseLost, and what the store raises."""
        with self._one_at_a_time:
            if self.lost:
                raise LeaseLost(_lost(self._lease))
            try:
                self.wanted = self._store.renew(self._lease, **self._told, **also)
            except LeaseLost:
                self.lost = True
                raise
            self._last = time.monotonic()

    def make_sure(self) -> None:
        """Before something is written: raises LeaseLost if the lease is gone, asking if that is not fresh news."""
        if self.lost or time.monotonic() - self._last > _STALE_BEATS * self._seconds:
            self.beat()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        failing = False
        while not self._ended.wait(self._seconds):
            try:
                self.beat()
                failing = False
            except LeaseLost:
                return
            except JobsError as error:  # a full disk, a lock held long: it may pass
                if not failing:
                    self._say(f"the lease could not be renewed, it is tried again: {error}")
                failing = True


def _lost(lease: Lease) -> str:
    return f"{lease.job.id} is no longer this worker's: its lease went to another"
