"""Read a clip or a picture into memory, whoever made the file: bounded, upright, RGB."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from homereel.core.errors import UnreadableMedia
from homereel.media.animation_timing import read_timing
from homereel.media.budget import DecodeBudget
from homereel.media.decode_image import MAX_IMAGE_BYTES, iterate_pictures, open_image, to_rgb
from homereel.media.decode_video import frame_rate, iterate_frames, open_video
from homereel.media.frame_folder import list_frames
from homereel.media.limits import MAX_IMAGE_PIXELS, Limits
from homereel.media.local_file import open_local, shown
from homereel.media.read_record import read_record, record_fps, record_in_image
from homereel.media.sniff import ANIMATED_KINDS, IMAGE_KINDS, VIDEO_KINDS, Kind, sniff

FOLDER_FPS = 16.0
"""The speed of PNG frames that carry no record."""


@dataclass(frozen=True)
class Clip:
    """Frames (T, H, W, 3), and how many of them are shown a second."""

    frames: NDArray[np.uint8]
    fps: float


def read_clip(path: str | Path, *, limits: Limits | None = None) -> Clip:
    """All frames of a video, an animated GIF or WebP, a folder of PNG frames or a `name_%04d.png` pattern.

    The format is what the content says, not the name. Transparent parts lie over white. Animations with
    frames of different length come out evenly timed, frames repeated. PNG frames take their speed from the
    record they carry, else 16 a second. Raises UnreadableMedia for anything else and over any of `limits`.
    """
    limits = limits or Limits()
    pictures = list_frames(path, limits=limits)
    if pictures is not None:
        return _read_folder(pictures, limits=limits)
    with open_local(path, max_bytes=limits.max_file_bytes) as file:
        kind = sniff(file, path=path)
        if kind in VIDEO_KINDS:
            with open_video(file, kind=kind, path=path, limits=limits) as container:
                fps = frame_rate(container, path=path)
                frames = _collect(iterate_frames(container, path=path, limits=limits), path=path)
                return Clip(frames, fps)
        if kind in ANIMATED_KINDS:
            return _read_animation(file, kind=kind, path=path, limits=limits)
    raise UnreadableMedia(
        f"{shown(path)} is a single picture ({kind.upper()}), not a clip; give a video, a GIF or a WebP"
    )


def read_image(path: str | Path, *, max_pixels: int = MAX_IMAGE_PIXELS) -> NDArray[np.uint8]:
    """A picture (H, W, 3) fit to be a first frame; of an animation the first picture.

    Turned as its EXIF says; transparent parts lie over white, as on a page; 16 bits are scaled to 8; palettes
    and CMYK become RGB. Raises UnreadableMedia for anything but PNG, JPEG, WebP, GIF and BMP, and for more
    than `max_pixels` before a pixel is decoded.
    """
    with open_local(path, max_bytes=MAX_IMAGE_BYTES) as file:
        kind = sniff(file, path=path)
        if kind not in IMAGE_KINDS:
            raise UnreadableMedia(f"{shown(path)} is a video, not a picture; save the frame you want as PNG first")
        with open_image(file, kind=kind, path=path, max_pixels=max_pixels) as image:
            return _upright(image)


def _upright(image: Any) -> NDArray[np.uint8]:
    from PIL import ImageOps

    image.load()
    return to_rgb(ImageOps.exif_transpose(image))


def _collect(frames: Iterator[NDArray[np.uint8]], *, path: str | Path) -> NDArray[np.uint8]:
    held: list[NDArray[np.uint8]] = []
    for frame in frames:
        if held and frame.shape != held[0].shape:
            raise UnreadableMedia(f"{shown(path)} changes its frame size on the way; convert it to one size first")
        held.append(frame)
    if not held:
        raise UnreadableMedia(f"{shown(path)} has no frame that can be decoded; is it cut short?")
    return np.stack(held)


def _read_animation(file: BinaryIO, *, kind: Kind, path: str | Path, limits: Limits) -> Clip:
    with open_image(file, kind=kind, path=path, max_pixels=limits.max_pixels) as image:
        fps = record_fps(record_in_image(image, kind=kind))
        timing = read_timing(file, kind=kind, path=path, limits=limits, fps=fps)
        DecodeBudget(limits, path=path).spend(width=image.width, height=image.height, num_frames=timing.num_frames)
        frames = _collect(iterate_pictures(image, path=path, limits=limits), path=path)
    repeats = (*timing.repeats, *[1] * len(frames))[: len(frames)]
    return Clip(np.repeat(frames, repeats, axis=0), timing.fps or 10.0)


def _read_folder(pictures: list[Path], *, limits: Limits) -> Clip:
    budget = DecodeBudget(limits, path=pictures[0].parent)

    def frames() -> Iterator[NDArray[np.uint8]]:
        for picture in pictures:
            frame = read_image(picture, max_pixels=limits.max_pixels)
            budget.spend(width=frame.shape[1], height=frame.shape[0])
            yield frame

    return Clip(_collect(frames(), path=pictures[0].parent), record_fps(read_record(pictures[0])) or FOLDER_FPS)
