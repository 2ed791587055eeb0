"""Frames that are still being made, with a record that only the last of them decides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from homereel import media
from homereel.core.errors import MediaError, UnwritableTarget
from homereel.media import FrameStream

Clip = NDArray[np.uint8]
NAMES = ["a.mp4", "a.gif", "a.webp", "a.png", "frames/"]


def shape_of(clip: Clip) -> tuple[int, int, int, int]:
    count, height, width, channels = clip.shape
    return count, height, width, channels


@pytest.mark.parametrize("name", NAMES)
def test_a_late_record_gives_the_same_file(tmp_path: Path, clip: Clip, record: dict[str, Any], name: str) -> None:
    """Asked for once, when the last frame is taken."""
    taken: list[int] = []
    asked: list[int] = []

    def frames() -> Iterator[Clip]:
        for index, frame in enumerate(clip):
            taken.append(index)
            yield frame

    def late() -> dict[str, Any]:
        asked.append(len(taken))
        return record

    for folder in ("known", "late"):
        (tmp_path / folder).mkdir()
    known = media.write_clip(clip, f"{tmp_path}/known/{name}", fps=16, record=record)
    stream = FrameStream(frames(), shape=shape_of(clip))
    found = media.write_clip(stream, f"{tmp_path}/late/{name}", fps=16, record=late)
    assert asked == [len(clip)]
    files = [sorted(path.rglob("*.png")) if path.is_dir() else [path] for path in (known, found)]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
    assert media.read_record(files[1][0]) == record


@pytest.mark.parametrize("name", ["a.mp4", "frames/"])
def test_a_late_record_that_fails_leaves_nothing(tmp_path: Path, clip: Clip, name: str) -> None:
    def late() -> dict[str, Any]:
        raise MediaError("nothing to tell")

    with pytest.raises(MediaError, match="nothing to tell"):
        media.write_clip(iter(clip), f"{tmp_path}/{name}", fps=16, record=late)
    assert list(tmp_path.iterdir()) == []


def test_private_holds_for_a_late_record_too(tmp_path: Path, clip: Clip, record: dict[str, Any]) -> None:
    path = media.write_clip(clip, tmp_path / "a.mp4", fps=16, record=lambda: record, private=True)
    assert "übermütig".encode() not in path.read_bytes()


def test_the_room_for_frames_to_come_is_checked_first(
    tmp_path: Path, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 1000

    taken: list[int] = []

    def frames() -> Iterator[Clip]:
        for index, frame in enumerate(clip):
            taken.append(index)
            yield frame

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    with pytest.raises(UnwritableTarget, match="1,000 bytes free"):
        media.write_clip(FrameStream(frames(), shape=shape_of(clip)), tmp_path / "a.mp4", fps=16)
    assert taken == []
