"""Write animated GIF and WebP with Pillow. Both formats are assembled at the end, so that the frames are
held in memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homereel.media.record_text import LateTags, Tags, known_tags
from homereel.media.xmp import make_xmp

_MAX_GIF_FPS = 50.0
_NUM_PALETTE_FRAMES = 16
_USER_COMMENT = 0x9286
_EXIF_FOLDER = 0x8769
_IMAGE_DESCRIPTION = 0x010E
_SOFTWARE = 0x0131


def encode_gif(
    frames: Iterable[NDArray[np.uint8]], *, path: Path, fps: float, tags: Tags | LateTags | None, quality: int
) -> None:
    """Fill `path` with an endless GIF. One palette for all frames, so that still parts do not shimmer.

    Browsers slow down anything above 50 frames a second: then every second (third ...) frame is left out
    instead.
    """
    from PIL import Image

    every = math.ceil(fps / _MAX_GIF_FPS)
    kept = list(frames)[::every]
    palette = _palette(kept, num_colours=64 + round(192 * quality / 100))
    images = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in kept]
    known = known_tags(tags)
    options: dict[str, Any] = {"comment": f"{known.comment}\n{known.record}".encode()} if known else {}
    with path.open("wb") as file:
        images[0].save(
            *(file, "GIF"),
            save_all=True,
            append_images=images[1:],
            duration=_delays(len(kept), fps=fps / every, unit_ms=10),
            loop=0,
            disposal=1,
            **options,
        )


def encode_webp(
    frames: Iterable[NDArray[np.uint8]], *, path: Path, fps: float, tags: Tags | LateTags | None, quality: int
) -> None:
    """Fill `path` with an endless WebP, lossless at quality 100. The record goes into XMP, `parameters`
    into EXIF.
    """
    from PIL import Image

    images = [Image.fromarray(frame) for frame in frames]
    known = known_tags(tags)
    options: dict[str, Any] = {"xmp": make_xmp(known).encode(), "exif": _exif(known)} if known else {}
    with path.open("wb") as file:
        images[0].save(
            *(file, "WEBP"),
            save_all=True,
            append_images=images[1:],
            duration=_delays(len(images), fps=fps, unit_ms=1),
            loop=0,
            quality=quality,
            lossless=quality == 100,
            method=4,
            **options,
        )


def _delays(count: int, *, fps: float, unit_ms: int) -> list[int]:
    """Milliseconds of each frame in whole units, rounded so that the sum never drifts from the true time."""
    ticks = [round(i * 1000 / fps / unit_ms) for i in range(count + 1)]
    return [max(1, b - a) * unit_ms for a, b in pairwise(ticks)]


def _palette(frames: list[NDArray[np.uint8]], *, num_colours: int) -> Any:
    """A paletted picture whose colours suit frames from all over the clip, each scaled to at most 256
    pixels a side.
    """
    from PIL import Image

    picks = [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, _NUM_PALETTE_FRAMES).round().astype(int))]
    step = max(1, math.ceil(max(picks[0].shape[:2]) / 256))
    mosaic = np.concatenate([pick[::step, ::step] for pick in picks])
    return Image.fromarray(np.ascontiguousarray(mosaic)).quantize(num_colours, method=Image.Quantize.MEDIANCUT)


def _exif(tags: Tags) -> bytes:
    """`parameters` as the user comment, where picture sites look for it in formats without text chunks."""
    from PIL import Image

    exif = Image.Exif()
    exif[_IMAGE_DESCRIPTION] = tags.comment.encode("ascii", "replace").decode("ascii")
    exif[_SOFTWARE] = "homereel"
    exif.get_ifd(_EXIF_FOLDER)[_USER_COMMENT] = b"UNICODE\0" + tags.parameters.encode("utf-16-be")
    return exif.tobytes()
