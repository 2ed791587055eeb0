"""Open a clip of any kind as a row of timed frames: a video, an animation, a folder of PNG frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from homereel.core.errors import UnreadableMedia
from homereel.media.animation_timing import read_timing
from homereel.media.budget import DecodeBudget
from homereel.media.decode_image import iterate_pictures, open_image, to_rgb
from homereel.media.decode_video import frame_rate, iterate_shots, open_video
from homereel.media.frame_folder import list_frames
from homereel.media.limits import Limits
from homereel.media.local_file import open_local, shown
from homereel.media.read_image import Convert, read_picture
from homereel.media.read_record import read_record, record_fps, record_in_image
from homereel.media.retime import Shot
from homereel.media.sniff import ANIMATED_KINDS, VIDEO_KINDS, Kind, sniff

FOLDER_FPS = 16.0
"""The speed of PNG frames that carry no record."""


@dataclass(frozen=True)
class ClipSource:
    """Frames to come, and how many of them are shown a second."""

    fps: float
    shots: Iterator[Shot]


@contextmanager
def open_clip(path: str | Path, *, limits: Limits, convert: Convert = to_rgb) -> Iterator[ClipSource]:
    """The frames of a clip as they are asked for. `convert` has no say over videos, which come as RGB.

    Raises UnreadableMedia for anything that is no clip and over any of `limits`.
    """
    pictures = list_frames(path, limits=limits)
    if pictures is not None:
        yield _folder_source(pictures, limits=limits, convert=convert)
        return
    with open_local(path, max_bytes=limits.max_file_bytes) as file:
        kind = sniff(file, path=path)
        if kind in VIDEO_KINDS:
            with open_video(file, kind=kind, path=path, limits=limits) as container:
                shots = iterate_shots(container, path=path, limits=limits)
                yield ClipSource(frame_rate(container, path=path), shots)
        elif kind in ANIMATED_KINDS:
            with open_image(file, kind=kind, path=path, max_pixels=limits.max_pixels) as image:
                yield _animation_source(image, file, kind=kind, path=path, limits=limits, convert=convert)
        else:
            raise UnreadableMedia(
                f"{shown(path)} is a single picture ({kind.upper()}), not a clip; give a video, a GIF or a WebP"
            )


def _animation_source(
    image: Any, file: BinaryIO, *, kind: Kind, path: str | Path, limits: Limits, convert: Convert
) -> ClipSource:
    """An animation evenly timed, frames repeated where one is shown for longer."""
    timing = read_timing(file, kind=kind, path=path, limits=limits, fps=record_fps(record_in_image(image, kind=kind)))
    DecodeBudget(limits, path=path).keep(timing.num_frames * image.width * image.height * 3)
    fps = timing.fps or 10.0

    def shots() -> Iterator[Shot]:
        count = 0
        for index, frame in enumerate(iterate_pictures(image, path=path, limits=limits, convert=convert)):
            for _ in range(timing.repeats[index] if index < len(timing.repeats) else 1):
                yield _even_shot(count, partial(_same, frame), fps=fps)
                count += 1

    return ClipSource(fps, shots())


def _folder_source(pictures: list[Path], *, limits: Limits, convert: Convert) -> ClipSource:
    fps = record_fps(read_record(pictures[0])) or FOLDER_FPS
    read = partial(read_picture, max_pixels=limits.max_pixels, convert=convert)
    return ClipSource(fps, (_even_shot(i, partial(read, picture), fps=fps) for i, picture in enumerate(pictures)))


def _even_shot(index: int, picture: Callable[[], NDArray[np.uint8]], *, fps: float) -> Shot:
    return Shot(index / fps, (index + 1) / fps, picture)


def _same(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return frame
