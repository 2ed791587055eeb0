"""Lets any number of clients follow what happens to jobs, with one look at the database for all of them.

Events lie in the store with their numbers, so a follower only remembers how far it has read: nothing piles up here for
a slow one, and one that comes back goes on where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from anyio import to_thread

from homereel.core.errors import StoreUnavailable
from homereel.jobs.records import Event
from homereel.jobs.store import JobStore

LOOK_SECONDS = 0.25
_AT_ONCE = 200


class Feed:
    """Belongs to one event loop."""

    def __init__(self, store: JobStore, *, closing: asyncio.Event, max_followers: int) -> None:
        self._store, self._closing, self._max = store, closing, max_followers
        self._num_followers = 0
        self._newest = 0
        self._more = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether no more should follow."""
        return self._num_followers >= self._max

    async def follow(
        self, after: int | None, *, job_id: str | None = None, quiet_seconds: float = 15.0
    ) -> AsyncIterator[Event | None]:
        """Events with a number above `after` (None: from now on), as they come; None when it was quiet for so long.

        Ends when the server does.
        """
        self._num_followers += 1
        try:
            newest = await to_thread.run_sync(self._store.last_event)
            seen = newest if after is None or after > newest else after
            while not self._closing.is_set():
                more = self._more  # before the look, so that nothing falls in between
                self._watch()
                events = await to_thread.run_sync(self._read, seen, job_id)
                for event in events:
                    yield event
                    seen = event.number
                if len(events) < _AT_ONCE and not await _set_within(more, quiet_seconds):
                    yield None
        finally:
            self._num_followers -= 1

    async def stop(self) -> None:
        """Wake all followers, so that they see that the server ends."""
        self._more.set()
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching

    def _read(self, seen: int, job_id: str | None) -> tuple[Event, ...]:
        return self._store.events(seen, limit=_AT_ONCE, job_id=job_id)

    def _watch(self) -> None:
        """See to it that somebody looks as long as somebody follows."""
        if self._watching is None or self._watching.done():
            self._watching = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        while self._num_followers and not self._closing.is_set():
            with suppress(StoreUnavailable):  # the next look may find it again
                newest = await to_thread.run_sync(self._store.last_event)
                if newest != self._newest:
                    self._newest = newest
                    more, self._more = self._more, asyncio.Event()
                    more.set()
            await asyncio.sleep(LOOK_SECONDS)
        self._more.set()


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
