"""What `--size` means: WIDTHxHEIGHT, a usual name such as 480p, or a shape that suits the model."""

from __future__ import annotations

import itertools
import math
import re

from homereel.core.errors import InvalidRequest
from homereel.core.model import Defaults, Grid

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
        return _legal_size(SHAPES[word], grid=grid, defaults=defaults)
    names = ", ".join([*NAMED_SIZES, *SHAPES])
    shown = text if len(text) <= 40 else text[:37] + "..."
    raise InvalidRequest(f"--size: {shown!r} is no size; give WIDTHxHEIGHT such as 256x144, or {names}", field="size")


def _legal_size(aspect: float, *, grid: Grid, defaults: Defaults) -> tuple[int, int]:
    """The size on the model's grid that is nearest in shape first, in area second."""
    area = defaults.width * defaults.height
    side = math.sqrt(area)
    widths = range(grid.width_multiple, min(grid.max_width, int(3 * side)) + 1, grid.width_multiple)
    heights = range(grid.height_multiple, min(grid.max_height, int(3 * side)) + 1, grid.height_multiple)

    def distance(size: tuple[int, int]) -> float:
        width, height = size
        return 2 * abs(math.log(width / height / aspect)) + abs(math.log(width * height / area))

    return min(itertools.product(widths, heights), key=distance)
