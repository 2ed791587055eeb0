"""Take from a clip the frames that are on show at evenly spaced moments: footage at 30 frames a second, or of
uneven length, for a model that makes 16.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

_SLACK_SECONDS = 0.001
"""Matroska counts milliseconds, so that a frame may claim to come a trifle later than it was meant."""


@dataclass(frozen=True)
class Shot:
    """One frame with the time when it is shown; `picture` converts it when it is wanted."""

    start_seconds: float
    stop_seconds: float
    picture: Callable[[], NDArray[np.uint8]]


def take_shots(shots: Iterable[Shot], *, fps: float | None, num_frames: int | None) -> Iterator[NDArray[np.uint8]]:
    """The pictures at 0, 1/fps, 2/fps ... seconds: of each moment the nearest frame at or before it, until the last
    one ends or there are `num_frames`. Without `fps` every one as it comes.
    """
    pictures = (shot.picture() for shot in shots) if fps is None else _at_moments(shots, fps=fps)
    return islice(pictures, num_frames)


def num_frames_at(seconds: float, *, fps: float) -> int:
    """How many frames a clip of this length gives at another rate; the first moment is at 0."""
    return max(1, math.ceil((seconds - _SLACK_SECONDS) * fps))


def _at_moments(shots: Iterable[Shot], *, fps: float) -> Iterator[NDArray[np.uint8]]:
    count = 0
    held: Shot | None = None
    for shot in shots:
        if held is not None:
            repeats = max(0, num_frames_at(shot.start_seconds, fps=fps) - count)
            yield from _repeat(held, repeats)
            count += repeats
        held = shot
    if held is not None:
        yield from _repeat(held, num_frames_at(held.stop_seconds, fps=fps) - count)


def _repeat(shot: Shot, times: int) -> Iterator[NDArray[np.uint8]]:
    if times:
        picture = shot.picture()
        for _ in range(times):
            yield picture
