"""The frames on their way into a file: taken one by one from an array or a generator, each checked against
the first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homereel.core.errors import MediaError
from homereel.media.replace import SourceFailed


@dataclass(frozen=True)
class FrameStream:
    """Frames that are still being made, and how many of what size they will be: (T, H, W, 3)."""

    frames: Iterable[NDArray[np.uint8]]
    shape: tuple[int, int, int, int]

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return iter(self.frames)


Frames = NDArray[np.uint8] | FrameStream | Iterable[NDArray[np.uint8]]


def take_frames(frames: Frames) -> Iterator[NDArray[np.uint8]]:
    """Each frame as contiguous (H, W, 3) uint8. At least one, all of one size, or MediaError.

    An exception of a generator comes out wrapped in SourceFailed, so that it is never taken for a fault of
    the disk.
    """
    shape: tuple[int, ...] | None = None
    source = iter(frames)
    while True:
        try:
            frame = next(source)
        except StopIteration:
            break
        except Exception as error:
            raise SourceFailed(error) from error
        _check(frame, shape)
        shape = frame.shape
        yield np.ascontiguousarray(frame)
    if shape is None:
        raise MediaError("there are no frames to write; a clip has at least one")


def frames_bytes(frames: Frames) -> int | None:
    """The raw size of all frames if it is known beforehand."""
    return math.prod(frames.shape) if isinstance(frames, (np.ndarray, FrameStream)) else None


def frames_count(frames: Frames) -> int:
    """How many there are if that is known beforehand, else 0."""
    return int(frames.shape[0]) if isinstance(frames, (np.ndarray, FrameStream)) else 0


def _check(frame: object, shape: tuple[int, ...] | None) -> None:
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        found = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise MediaError(f"a frame is {found}; frames are numpy uint8 of shape (height, width, 3)")
    if 0 in frame.shape or max(frame.shape) > 16_384:
        raise MediaError(f"a frame has {frame.shape[1]}x{frame.shape[0]} pixels; 1 to 16384 a side can be written")
    if shape is not None and frame.shape != shape:
        raise MediaError(
            f"a frame has {frame.shape[1]}x{frame.shape[0]} pixels, the first one {shape[1]}x{shape[0]}; "
            "all must be alike"
        )
