"""Decode still and animated pictures with Pillow: one forced decoder, the size checked before a pixel is
decoded.

Pillow only warns about a 20-kB PNG of 13000 x 13000; here the decoder class is called directly, so that its
header is read, judged, and only then decoded. WebP allocates at once, hence its size is read from the bytes
first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from homereel.core.errors import UnreadableMedia
from homereel.media.budget import DecodeBudget
from homereel.media.limits import Limits
from homereel.media.local_file import shown
from homereel.media.sniff import Kind

MAX_IMAGE_BYTES = 512 * 2**20


@contextmanager
def open_image(file: BinaryIO, *, kind: Kind, path: str | Path, max_pixels: int) -> Iterator[Any]:
    """The Pillow image of an open file, not yet decoded. Any fault inside becomes UnreadableMedia."""
    from PIL import Image, UnidentifiedImageError

    if kind == "webp":
        _check_size(*_webp_size(file), path=path, max_pixels=max_pixels)
    try:
        with _decoder(kind)(file) as image:
            _check_size(*image.size, path=path, max_pixels=max_pixels)
            yield image
    except (
        *(UnidentifiedImageError, Image.DecompressionBombError, Image.DecompressionBombWarning),
        *(
            OSError,
            SyntaxError,
            ValueError,
            EOFError,
            KeyError,
            IndexError,
            TypeError,
            OverflowError,
            MemoryError,
        ),
    ) as error:
        reason = " ".join(str(error).split())[:120]
        raise UnreadableMedia(f"{shown(path)} cannot be decoded ({reason}); is it damaged or cut short?") from None


def to_rgb(image: Any) -> NDArray[np.uint8]:
    """(H, W, 3) of any Pillow mode: transparency over white, 16 bits scaled to 8, palette and CMYK
    converted.
    """
    from PIL import Image

    if _is_deep_grey(image):
        return np.repeat(_to_8_bits(np.asarray(image))[:, :, None], 3, axis=2)
    if _has_alpha(image):
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba)
    return np.array(image.convert("RGB"), dtype=np.uint8)


def to_grey_alpha(image: Any) -> NDArray[np.uint8]:
    """(H, W, 2) of any Pillow mode: how light it is, and its alpha, 255 where it has none."""
    if _is_deep_grey(image):
        grey = _to_8_bits(np.asarray(image))
        return np.stack([grey, np.full_like(grey, 255)], axis=-1)
    rgba = image.convert("RGBA") if _has_alpha(image) else image.convert("RGB").convert("RGBA")
    grey = np.array(rgba.convert("RGB").convert("L"), dtype=np.uint8)
    return np.stack([grey, np.array(rgba.getchannel("A"), dtype=np.uint8)], axis=-1)


def iterate_pictures(
    image: Any, *, path: str | Path, limits: Limits, convert: Callable[[Any], NDArray[np.uint8]] = to_rgb
) -> Iterator[NDArray[np.uint8]]:
    """Each picture of a GIF or WebP, converted, counted against the limits."""
    budget = DecodeBudget(limits, path=path)
    index = 0
    while True:
        try:
            image.seek(index)
        except EOFError:
            return
        budget.decode(width=image.width, height=image.height)
        image.load()
        yield convert(image)
        index += 1


def _is_deep_grey(image: Any) -> bool:
    return bool(image.mode.startswith("I") or image.mode == "F")


def _has_alpha(image: Any) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def _to_8_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey values of 16 bits, as PNG has them. Rounded, so that 0 and 65535 become 0 and 255."""
    return np.rint(np.clip(values.astype(np.float32), 0, 65535) / 257).astype(np.uint8)


def _decoder(kind: Kind) -> Any:
    if kind == "png":
        from PIL.PngImagePlugin import PngImageFile as Decoder
    elif kind == "jpeg":
        from PIL.JpegImagePlugin import JpegImageFile as Decoder  # type: ignore[assignment,unused-ignore]
    elif kind == "gif":
        from PIL.GifImagePlugin import GifImageFile as Decoder  # type: ignore[assignment,unused-ignore]
    elif kind == "webp":
        from PIL.WebPImagePlugin import WebPImageFile as Decoder  # type: ignore[assignment,unused-ignore]
    else:
        from PIL.BmpImagePlugin import BmpImageFile as Decoder  # type: ignore[assignment,unused-ignore]
    return Decoder


def _check_size(width: int, height: int, *, path: str | Path, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise UnreadableMedia(f"{shown(path)} claims a size of {width}x{height} pixels; it is damaged")
    if width * height > max_pixels:
        raise UnreadableMedia(
            f"{shown(path)} has {width}x{height} pixels; at most {max_pixels:,} are decoded; scale it down first"
        )


def _webp_size(file: BinaryIO) -> tuple[int, int]:
    """The canvas that the first chunk of a WebP announces; (0, 0) if there is none."""
    file.seek(12)
    head = file.read(18)
    file.seek(0)
    chunk, body = head[:4], head[8:]
    if len(head) < 18:
        return 0, 0
    if chunk == b"VP8X":
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if chunk == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 ":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    return 0, 0
