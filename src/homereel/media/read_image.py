"""Read a picture into memory, whoever made the file: bounded, upright, RGB."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homereel.core.errors import UnreadableMedia
from homereel.media.decode_image import MAX_IMAGE_BYTES, open_image, to_rgb
from homereel.media.limits import MAX_IMAGE_PIXELS
from homereel.media.local_file import open_local, shown
from homereel.media.sniff import IMAGE_KINDS, sniff

Convert = Callable[[Any], NDArray[np.uint8]]  # an upright, decoded Pillow image to pixels


def read_image(path: str | Path, *, max_pixels: int = MAX_IMAGE_PIXELS) -> NDArray[np.uint8]:
    """A picture (H, W, 3) fit to be a first frame; of an animation the first picture.

    Turned as its EXIF says; transparent parts lie over white, as on a page; 16 bits are scaled to 8; palettes
    and CMYK become RGB. Raises UnreadableMedia for anything but PNG, JPEG, WebP, GIF and BMP, and for more
    than `max_pixels` before a pixel is decoded.
    """
    return read_picture(path, max_pixels=max_pixels, convert=to_rgb)


def read_picture(
    path: str | Path, *, max_pixels: int, convert: Callable[[Any], NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """The same, with another conversion into pixels."""
    from PIL import ImageOps

    with open_local(path, max_bytes=MAX_IMAGE_BYTES) as file:
        kind = sniff(file, path=path)
        if kind not in IMAGE_KINDS:
            raise UnreadableMedia(f"{shown(path)} is a video, not a picture; save the frame you want as PNG first")
        with open_image(file, kind=kind, path=path, max_pixels=max_pixels) as image:
            image.load()
            return convert(ImageOps.exif_transpose(image))
