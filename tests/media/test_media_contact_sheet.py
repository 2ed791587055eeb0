"""Contact sheets: which frames, where, how large; captions stay inside their cell."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from homereel import media
from homereel.core.errors import MediaError
from homereel.media.contact_sheet import wrap_caption

Clip = NDArray[np.uint8]
BACKGROUND = [24, 25, 28]


def numbered(num_frames: int, *, height: int = 200, width: int = 200) -> Clip:
    """Frames whose grey tells their number: 100, 101, ..."""
    levels = np.arange(100, 100 + num_frames, dtype=np.uint8)
    return np.ascontiguousarray(np.broadcast_to(levels[:, None, None, None], (num_frames, height, width, 3)))


def test_evenly_spaced_frames_from_first_to_last() -> None:
    sheet = media.contact_sheet([numbered(33)], frames_per_clip=5)
    assert sheet.shape == (240, 5 * 203 - 3 + 40, 3)
    assert [int(sheet[120, 20 + 100 + 203 * i, 0]) for i in range(5)] == [100, 108, 116, 124, 132]
    assert sheet[5, 5].tolist() == BACKGROUND


def test_short_clips_show_what_they_have() -> None:
    sheet = media.contact_sheet([numbered(2), numbered(4)], frames_per_clip=8)
    row = sheet[120, 20:, 0]
    assert [int(row[100 + 203 * i]) for i in range(4)] == [100, 101, BACKGROUND[0], BACKGROUND[0]]


def test_cells_stand_in_columns_and_frames_in_rows() -> None:
    sheet = media.contact_sheet([numbered(4)] * 3, columns=2, frames_per_clip=4, frames_per_row=2)
    cell = 2 * 203 - 3
    assert sheet.shape == (2 * (cell + 20) + 20, 2 * (cell + 20) + 20, 3)
    assert int(sheet[20 + 203 + 100, 20 + cell + 20 + 203 + 100, 0]) == 103
    assert sheet[-30, -30].tolist() == BACKGROUND


def test_small_frames_are_doubled_and_large_ones_fit() -> None:
    assert media.contact_sheet([numbered(2, height=10, width=20)]).shape == (60, 2 * 43 - 3 + 40, 3)
    large = media.contact_sheet([numbered(8, height=72, width=1280)])
    assert large.shape[1] <= 1920
    assert large.shape[1] > 1900


def test_frames_keep_their_shape() -> None:
    sheet = media.contact_sheet([numbered(1, height=200, width=100), numbered(1, height=100, width=200)])
    shown = (sheet[:, :, 0] == 100).sum()
    assert shown == 2 * 200 * 100


def test_captions_are_drawn_below() -> None:
    bare = media.contact_sheet([numbered(8)])
    told = media.contact_sheet([numbered(8)], captions=["a red ball"])
    assert told.shape[0] == bare.shape[0] + 8 + 21
    assert told[222:, 20:120].max() > 200
    assert (told[222:, 200:] == BACKGROUND).all()


def test_captions_wrap_and_end_in_dots() -> None:
    assert wrap_caption("short", width=300) == ["short"]
    assert wrap_caption("", width=300) == []
    two = wrap_caption("a red ball bounces on a green floor while the light is dim", width=220)
    assert len(two) == 2
    assert " ".join(two) == "a red ball bounces on a green floor while the light is dim"
    cut = wrap_caption("word " * 100, width=220)
    assert len(cut) == 2
    assert cut[1].endswith("...")
    assert wrap_caption("w" * 500, width=220)[0].endswith("w...")
    assert wrap_caption("a\nb\x1b[0m é 球", width=300) == ["a b [0m e ?"]


@pytest.mark.parametrize("width", [60, 200, 517])
def test_no_caption_runs_out_of_its_cell(width: int) -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(size=16)
    for caption in ("W" * 90, "iiii WWWW " * 20, "a" + " b" * 300):
        assert all(font.getlength(line) <= width for line in wrap_caption(caption, width=width))


def test_wrong_calls_are_refused() -> None:
    with pytest.raises(MediaError, match="at least one clip"):
        media.contact_sheet([])
    with pytest.raises(MediaError, match="at least one clip"):
        media.contact_sheet([numbered(2)[0]])
    with pytest.raises(MediaError, match="2 captions for 1 clips"):
        media.contact_sheet([numbered(2)], captions=["a", "b"])
    with pytest.raises(MediaError, match="at least 1"):
        media.contact_sheet([numbered(2)], columns=0)
