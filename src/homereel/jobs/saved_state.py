"""Keeps the last state of a half-made clip in the job's folder, at a small part of the time that the clip takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from homereel.core.errors import HomereelError, MediaError

if TYPE_CHECKING:
    from homereel.engine.state import DenoiseState

SHARE = 0.02
"""Saving takes at most this part of the time."""


class SavedState:
    """The state file of one job. `take` is called after every step; `keep` when the work is about to end early."""

    def __init__(
        self,
        path: Path,
        *,
        say: Callable[[str], None],
        share: float = SHARE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._say, self._share, self._clock = path, say, share, clock
        self._last: DenoiseState | None = None
        self._is_saved = True
        self._failing = False
        self._not_before = clock()

    def load(self) -> DenoiseState | None:
        """What an earlier worker left; None if there is nothing, or nothing that can be used."""
        if not self._path.exists():
            return None
        from homereel.engine.state import DenoiseState  # with torch, which a job that only begins need not wait for

        try:
            return DenoiseState.load(self._path)
        except MediaError as error:
            self._say(f"the saved state is damaged, so the clip is started anew: {error}")
            self.remove()
            return None

    def take(self, state: DenoiseState) -> None:
        """The state after a step: saved if saving has not cost too much of late."""
        self._last, self._is_saved = state, False
        if self._clock() >= self._not_before:
            self.keep()

    def keep(self) -> None:
        """Save the last state that was taken, unless it is saved. A disk that has no room is told of, once."""
        if self._last is None or self._is_saved:
            return
        started = self._clock()
        try:
            self._last.save(self._path)
            self._is_saved = True
        except HomereelError as error:
            if not self._failing:
                self._say(f"the state could not be saved; if this worker ends, steps are lost: {error}")
            self._failing = True
        now = self._clock()
        self._not_before = now + (now - started) / self._share

    def remove(self) -> None:
        """Forget it, with what a killed worker left half-written."""
        self._last, self._is_saved = None, True
        remove_leftovers(self._path)
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove what `DenoiseState.save` left hidden beside the file when its process was killed."""
    for left in path.parent.glob(f".{path.name}-*"):
        with suppress(OSError):
            left.unlink()
