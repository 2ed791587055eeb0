"""A small animated WebP of what a clip looks like so far: seldom, cheap, and whole whenever someone reads it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from homereel.core.events import Preview
from homereel.core.shortage import is_out_of_memory

SHARE = 0.03
MIN_SECONDS = 1.0
MAX_SIDE = 256
_FPS = 8


class LivePreview:
    """Writes one job's preview at most once a second, and never for more than 3 % of the time."""

    def __init__(self, path: Path, *, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._say, self._clock = path, say, clock
        self._not_before = clock() + MIN_SECONDS
        self._given_up = False
        self.is_made_now = False

    def offer(self, preview: Preview | None) -> None:
        """Take it if it is time. A preview that finds no memory or no room on the disk is the job's last."""
        if preview is None or self._given_up or self._clock() < self._not_before:
            return
        started, self.is_made_now = self._clock(), True
        try:
            write_whole(self._path, webp(preview()))
        except (RuntimeError, MemoryError, OSError) as error:
            if not (isinstance(error, OSError) or is_out_of_memory(error)):
                raise
            self._given_up = True
            self._say(f"there are no more previews: {error}")
        finally:
            self.is_made_now = False
        now = self._clock()
        self._not_before = now + max(MIN_SECONDS, (now - started) / SHARE)

    def remove(self) -> None:
        """The clip is there, or will never be."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def webp(frames_THWC: NDArray[np.uint8]) -> bytes:
    """The frames as an endless animation that is quick to make."""
    from PIL import Image

    images = [Image.fromarray(frame) for frame in np.ascontiguousarray(frames_THWC)]
    for image in images:
        image.thumbnail((MAX_SIDE, MAX_SIDE))
    held = BytesIO()
    rest = {"save_all": True, "append_images": images[1:], "duration": 1000 // _FPS, "loop": 0}
    images[0].save(held, "WEBP", quality=60, method=0, **rest)
    return held.getvalue()


def write_whole(path: Path, content: bytes) -> None:
    """Whoever reads `path` finds the old content or the new. Raises OSError, and leaves nothing half-written."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
