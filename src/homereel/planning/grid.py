"""Moves what was asked for to what a model can make, and says so in a sentence for each change."""

from __future__ import annotations

import itertools
import math

from homereel.core.errors import InvalidRequest
from homereel.core.model import Defaults, Grid
from homereel.core.request import Request


def settle_size(
    request: Request, *, grid: Grid, defaults: Defaults, image_size: tuple[int, int] | None
) -> tuple[int, int, list[str]]:
    """Width and height, and the changes told.

    What is not given follows the picture's proportions, else those of the standard clip, whose area is kept.
    """
    columns, rows = image_size or (defaults.width, defaults.height)
    if request.width is None and request.height is None:
        side = math.sqrt(defaults.width * defaults.height / (columns * rows))
        asked_width, asked_height = columns * side, rows * side
    else:
        asked_width = request.width or (request.height or 1) * columns / rows
        asked_height = request.height or asked_width * rows / columns
    width = _nearest(asked_width, grid.width_multiple, grid.max_width)
    height = _nearest(asked_height, grid.height_multiple, grid.max_height)
    told = []
    for name, asked, multiple, most, used in (
        ("width", request.width, grid.width_multiple, grid.max_width, width),
        ("height", request.height, grid.height_multiple, grid.max_height, height),
    ):
        if asked is not None and asked != used:
            reason = f"is more than {most}" if asked > most else f"is not a multiple of {multiple}"
            told.append(f"{name} {asked} {reason}; using {used}")
    return width, height, told


def nearest_size(aspect: float, *, area: float, grid: Grid) -> tuple[int, int]:
    """The size on a model's grid that is nearest in shape (width / height) first, in area second."""
    side = math.sqrt(area)
    widths = range(grid.width_multiple, min(grid.max_width, int(3 * side)) + 1, grid.width_multiple)
    heights = range(grid.height_multiple, min(grid.max_height, int(3 * side)) + 1, grid.height_multiple)

    def distance(size: tuple[int, int]) -> float:
        width, height = size
        return 2 * abs(math.log(width / height / aspect)) + abs(math.log(width * height / area))

    return min(itertools.product(widths, heights), key=distance)


def settle_length(
    request: Request,
    *,
    grid: Grid,
    defaults: Defaults,
    fps: float,
    footage_frames: int | None = None,
    may_go_on: bool = False,
) -> tuple[int, list[str]]:
    """Number of frames, and the change told if there is one.

    What is not given follows the footage, as far as the standard clip is long. Raises InvalidRequest for a clip
    that is longer than the footage, unless the model `may_go_on` from there.
    """
    if request.num_frames is None and request.seconds is None:
        if footage_frames is None:
            return _nearest_length(defaults.num_frames, grid), []
        return _length_of_footage(footage_frames, grid=grid, defaults=defaults, fps=fps)
    asked = request.num_frames if request.num_frames is not None else (request.seconds or 0) * fps
    used = _nearest_length(asked, grid)
    if footage_frames is not None and used > footage_frames and not may_go_on:
        raise InvalidRequest(
            f"the footage gives {footage_frames} frames at {fps:g} fps, and {used} are asked for; ask for fewer",
            field="video",
        )
    if asked == used:
        return used, []
    name = "num_frames" if request.num_frames is not None else f"seconds {request.seconds:g}, which is"
    frames = f"{name} {asked:g}" + ("" if request.num_frames is not None else f" frames at {fps:g} fps,")
    reason = f"is more than {grid.max_frames}" if asked > grid.max_frames else _length_rule(grid)
    return used, [f"{frames} {reason}; using {used} ({used / fps:.2f} s)"]


def check_goes_on(extend_from: int, *, num_frames: int, grid: Grid) -> None:
    """Raises InvalidRequest unless a clip of so many frames can hold another's first ones and go on from there."""
    if (extend_from - 1) % grid.frame_multiple:
        raise InvalidRequest(f"extend_from {extend_from} {_length_rule(grid)}; give such a number", field="extend_from")
    if num_frames <= extend_from:
        raise InvalidRequest(
            f"num_frames {num_frames} is no more than the {extend_from} that are there; it counts both, so give more",
            field="num_frames",
        )


def _length_of_footage(frames: int, *, grid: Grid, defaults: Defaults, fps: float) -> tuple[int, list[str]]:
    most = min(frames, max(defaults.num_frames, 1))
    used = (most - 1) // grid.frame_multiple * grid.frame_multiple + 1
    if used == frames:
        return used, []
    return used, [f"of the footage's {frames / fps:.2f} s the first {used / fps:.2f} s are used"]


def _length_rule(grid: Grid) -> str:
    return f"is not of the form {grid.frame_multiple}n + 1"


def _nearest(asked: float, multiple: int, most: int) -> int:
    return max(multiple, min(most, math.floor(asked / multiple + 0.5) * multiple))


def _nearest_length(asked: float, grid: Grid) -> int:
    groups = math.floor((asked - 1) / grid.frame_multiple + 0.5)
    return max(1, min(grid.max_frames, groups * grid.frame_multiple + 1))
