"""Sees which leases are no longer renewed, without trusting any clock but its own patience.

A worker's heartbeat raises its lease's beat. Whoever watches remembers each beat and counts the seconds in which it saw
no change. A look that comes late (the watcher was frozen, the machine slept, a clock jumped) counts as a short time, so
a lease is never lost because the watcher was away.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from homereel.core.errors import StoreUnavailable
from homereel.jobs.records import Held
from homereel.jobs.store import JobStore

LEASE_SECONDS = 20.0
_LOOKS = 4  # so many looks at least must find the same beat


@dataclass
class _Seen:
    """A lease as it was at the last look, and for how long it has not changed."""

    token: int
    beat: int
    silent_seconds: float = 0.0


class LeaseWatch:
    """One watcher. `clock` only measures the time between two looks; it need not be the time of day."""

    def __init__(
        self,
        store: JobStore,
        *,
        lease_seconds: float = LEASE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._lease_seconds, self._clock = store, lease_seconds, clock
        self._last_look: float | None = None
        self._seen: dict[str, _Seen] = {}

    def look(self) -> tuple[Held, ...]:
        """Revoke the leases that were silent for `lease_seconds`, and return them. To be called every second or so;
        after an error of the store, what was counted is kept.
        """
        held = self._store.leases()
        passed = self._passed_seconds()
        self._seen = {lease.job_id: self._look_at(lease, passed) for lease in held}
        revoked: list[Held] = []
        for lease in held:
            if self._seen[lease.job_id].silent_seconds < self._lease_seconds:
                continue
            try:
                if self._revoke(lease):
                    revoked.append(lease)
            except StoreUnavailable:
                if not revoked:
                    raise
                break  # those must be told; the rest is for the next look
        return tuple(revoked)

    def _passed_seconds(self) -> float:
        now = self._clock()
        passed = 0.0 if self._last_look is None else now - self._last_look
        self._last_look = now
        return min(max(0.0, passed), self._lease_seconds / _LOOKS)

    def _look_at(self, lease: Held, passed: float) -> _Seen:
        seen = self._seen.get(lease.job_id)
        if seen is None or (seen.token, seen.beat) != (lease.token, lease.beat):
            return _Seen(lease.token, lease.beat)
        return _Seen(lease.token, lease.beat, seen.silent_seconds + passed)

    def _revoke(self, lease: Held) -> bool:
        reason = f"{lease.worker} was silent for {self._lease_seconds:g} s"
        return self._store.revoke(lease.job_id, lease.token, reason=reason)
