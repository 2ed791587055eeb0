"""Draw clips as one picture: a strip of frames each, its caption below, on a dark ground."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homereel.core.errors import MediaError

_BACKGROUND = (24, 25, 28)
_TEXT = (226, 226, 222)
_MARGIN = 20  # around the sheet, and between the cells
_FRAME_GAP = 3
_CAPTION_GAP = 8
_FONT_SIZE = 16
_LINE_HEIGHT = 21
_MAX_LINES = 2
_MAX_WIDTH = 1920
_SMALL_FRAME = 128  # narrower frames are shown at twice their size where there is room
_ELLIPSIS = "..."


@dataclass(frozen=True)
class _Layout:
    """All sizes in pixels; a cell is the strip of one clip with its caption."""

    columns: int
    frames_per_row: int
    num_rows: int  # of frames in a cell
    frame_width: int
    frame_height: int
    caption_lines: int

    @property
    def cell_width(self) -> int:
        return self.frames_per_row * (self.frame_width + _FRAME_GAP) - _FRAME_GAP

    @property
    def strip_height(self) -> int:
        return self.num_rows * (self.frame_height + _FRAME_GAP) - _FRAME_GAP

    @property
    def cell_height(self) -> int:
        caption = _CAPTION_GAP + self.caption_lines * _LINE_HEIGHT if self.caption_lines else 0
        return self.strip_height + caption

    def corner(self, index: int) -> tuple[int, int]:
        row, column = divmod(index, self.columns)
        return _MARGIN + column * (self.cell_width + _MARGIN), _MARGIN + row * (self.cell_height + _MARGIN)


def contact_sheet(
    clips: Sequence[NDArray[np.uint8]],
    *,
    captions: Sequence[str] = (),
    columns: int = 1,
    frames_per_clip: int = 8,
    frames_per_row: int | None = None,
) -> NDArray[np.uint8]:
    """A picture (H, W, 3) of `clips`, each (T, H, W, 3): evenly spaced frames, the first and the last
    among them.

    `columns` clips stand side by side; the frames of one run in rows of `frames_per_row` (default: all in one
    row). Frames keep their shape and are scaled down until the sheet is at most 1920 pixels wide, small ones
    shown at twice their size where that fits. Captions (none, or one a clip; plain letters) take up to two
    lines and end in dots if longer.
    """
    _check(clips, captions=captions, counts=(columns, frames_per_clip, frames_per_row or 1))
    num_frames = min(frames_per_clip, max(len(clip) for clip in clips))
    row_frames = min(frames_per_row or num_frames, num_frames)
    columns = min(columns, len(clips))
    frame_width, frame_height = _frame_size(clips, num_across=columns * row_frames, columns=columns)
    cell_width = row_frames * (frame_width + _FRAME_GAP) - _FRAME_GAP
    lines = [wrap_caption(caption, width=cell_width) for caption in captions] or [[] for _ in clips]
    layout = _Layout(
        columns=columns,
        frames_per_row=row_frames,
        num_rows=math.ceil(num_frames / row_frames),
        frame_width=frame_width,
        frame_height=frame_height,
        caption_lines=max(len(caption) for caption in lines),
    )
    return _draw(clips, lines, layout=layout, num_frames=num_frames)


def wrap_caption(caption: str, *, width: int) -> list[str]:
    """The caption in at most two lines that measure at most `width` pixels; the last ends in dots if words
    are left.
    """
    font = _font()
    words = _drawable(caption[:2000]).split()
    lines: list[str] = []
    while words and len(lines) < _MAX_LINES:
        count = 1
        while count < len(words) and font.getlength(" ".join(words[: count + 1])) <= width:
            count += 1
        is_last = len(lines) == _MAX_LINES - 1 and count < len(words)
        text = " ".join(words if is_last else words[:count])
        lines.append(_shorten(text, width=width))
        words = words[count:]
    return lines


def _drawable(text: str) -> str:
    """The text in the letters that the bundled font has: accents dropped, a question mark for any other
    script.
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if " " <= c <= "~" else " " if c.isspace() or not c.isprintable() else "?" for c in plain)


def _shorten(text: str, *, width: int) -> str:
    """The text, or as many of its characters as fit with dots behind them."""
    font = _font()
    if font.getlength(text) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        fits = font.getlength(text[:middle].rstrip() + _ELLIPSIS) <= width
        low, high = (middle, high) if fits else (low, middle - 1)
    return text[:low].rstrip() + _ELLIPSIS


def _check(clips: Sequence[NDArray[np.uint8]], *, captions: Sequence[str], counts: tuple[int, int, int]) -> None:
    if not clips or any(clip.ndim != 4 or clip.shape[3] != 3 or 0 in clip.shape for clip in clips):
        raise MediaError("a contact sheet needs at least one clip, each an array of shape (frames, height, width, 3)")
    if captions and len(captions) != len(clips):
        raise MediaError(f"there are {len(captions)} captions for {len(clips)} clips; give one for each, or none")
    if min(counts) < 1:
        raise MediaError("columns, frames_per_clip and frames_per_row of a contact sheet are at least 1")


def _frame_size(clips: Sequence[NDArray[np.uint8]], *, num_across: int, columns: int) -> tuple[int, int]:
    """Width and height at which every frame is shown: those of the largest clip, scaled to fit."""
    width = max(clip.shape[2] for clip in clips)
    height = max(clip.shape[1] for clip in clips)
    room = (_MAX_WIDTH - (columns + 1) * _MARGIN - (num_across - columns) * _FRAME_GAP) / num_across
    scale = min(1.0, room / width)
    if width <= _SMALL_FRAME and 2 * width <= room:
        scale = 2.0
    return max(1, int(width * scale)), max(1, int(height * scale))


def _draw(
    clips: Sequence[NDArray[np.uint8]], lines: list[list[str]], *, layout: _Layout, num_frames: int
) -> NDArray[np.uint8]:
    from PIL import Image, ImageDraw

    num_cell_rows = math.ceil(len(clips) / layout.columns)
    width = layout.columns * (layout.cell_width + _MARGIN) + _MARGIN
    height = num_cell_rows * (layout.cell_height + _MARGIN) + _MARGIN
    sheet = Image.new("RGB", (width, height), _BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    for index, (clip, caption) in enumerate(zip(clips, lines, strict=True)):
        left, top = layout.corner(index)
        for i, frame_index in enumerate(_pick(len(clip), num_frames)):
            row, column = divmod(i, layout.frames_per_row)
            corner = (
                left + column * (layout.frame_width + _FRAME_GAP),
                top + row * (layout.frame_height + _FRAME_GAP),
            )
            _paste(sheet, clip[frame_index], corner=corner, layout=layout)
        for i, line in enumerate(caption):
            y = top + layout.strip_height + _CAPTION_GAP + i * _LINE_HEIGHT
            pen.text((left, y), line, fill=_TEXT, font=_font())
    return np.asarray(sheet, dtype=np.uint8).copy()


def _pick(length: int, num_frames: int) -> list[int]:
    """Indices of up to `num_frames` frames, evenly spaced from the first to the last."""
    return sorted({round(float(i)) for i in np.linspace(0, length - 1, min(num_frames, length))})


def _paste(sheet: Any, frame: NDArray[np.uint8], *, corner: tuple[int, int], layout: _Layout) -> None:
    """Put one frame into its place, centred, its shape kept; enlarged ones show their pixels as they are."""
    from PIL import Image

    height, width = frame.shape[:2]
    scale = min(layout.frame_width / width, layout.frame_height / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(np.ascontiguousarray(frame))
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
    offset = ((layout.frame_width - size[0]) // 2, (layout.frame_height - size[1]) // 2)
    sheet.paste(picture, (corner[0] + offset[0], corner[1] + offset[1]))


def _font() -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size=_FONT_SIZE)
