"""What `--size` means: WIDTHxHEIGHT, a usual name such as 480p, or a shape that suits the model."""

from __future__ import annotations

import re

from homereel.core.errors import InvalidRequest
from homereel.core.model import Defaults, Grid
from homereel.planning.grid import nearest_size

NAMED_SIZES = {
    "144p": (256, 144),
    "240p": (416, 240),
    "480p": (832, 480),
    "720p": (1280, 720),
    "1080p": (1920, 1080),
}
SHAPES = {"square": 1.0, "wide": 16 / 9, "tall": 9 / 16}
_PIXELS = re.compile(r"([0-9]{1,6})[x×*]([0-9]{1,6})")


def read_size(text: str, *, grid: Grid, defaults: Defaults) -> tuple[int, int]:
    """Width and height. A shape such as `wide` keeps about the area of the model's standard clip."""
    word = text.strip().lower()
    pixels = _PIXELS.fullmatch(word)
    if pixels:
        return int(pixels[1]), int(pixels[2])
    if word in NAMED_SIZES:
        return NAMED_SIZES[word]
    if word in SHAPES:
        return nearest_size(SHAPES[word], area=defaults.width * defaults.height, grid=grid)
    names = ", ".join([*NAMED_SIZES, *SHAPES])
    shown = text if len(text) <= 40 else text[:37] + "..."
    raise InvalidRequest(f"--size: {shown!r} is no size; give WIDTHxHEIGHT such as 256x144, or {names}", field="size")
