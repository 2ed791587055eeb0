"""The frames on their way into a file: taken one by one from an array or a generator, each checked against
the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from homereel.core.errors import MediaError
from homereel.media.replace import SourceFailed

Frames = NDArray[np.uint8] | Iterable[NDArray[np.uint8]]


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
    """The raw size if all frames are there already, else None."""
    return frames.nbytes if isinstance(frames, np.ndarray) else None


def frames_count(frames: Frames) -> int:
    """How many there are if all are there already, else 0."""
    return len(frames) if isinstance(frames, np.ndarray) else 0


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
