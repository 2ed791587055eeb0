"""Names of files and sizes: what is made of the words given."""

from __future__ import annotations

from pathlib import Path

import pytest

from homereel.cli.size import read_size
from homereel.cli.targets import name_targets
from homereel.core.errors import InvalidRequest, UnwritableTarget
from homereel.core.model import Defaults, Grid

GRID = Grid(width_multiple=16, height_multiple=16, frame_multiple=4, max_width=16384, max_height=16384, max_frames=4093)
POCKET = Defaults(width=96, height=96, num_frames=33, fps=16, steps=30, guidance=4, shift=2, sampler="unipc")


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("A red ball, bouncing!", "a-red-ball-bouncing.mp4"),
        ("../../etc/passwd", "etc-passwd.mp4"),
        ("ein roter Ball fällt", "ein-roter-ball-fällt.mp4"),
        ("球が跳ねる", "球が跳ねる.mp4"),
        ("!!!", "clip.mp4"),
        ("snake_case -o --json", "snake-case-o-json.mp4"),
        ("x" * 300, "clip.mp4"),
        ("ten words " * 30, "ten-words-ten-words-ten-words-ten-words-ten.mp4"),
    ],
)
def test_name_from_the_prompt(folder: Path, prompt: str, name: str) -> None:
    assert name_targets(None, prompt=prompt, seeds=[1]) == [name]


def test_automatic_names_are_free(folder: Path) -> None:
    for taken in ("a.mp4", "a-2.mp4"):
        Path(taken).touch()
    assert name_targets(None, prompt="a", seeds=[1]) == ["a-3.mp4"]
    assert name_targets(None, prompt="a", seeds=[1, 2]) == ["a-1.mp4", "a-3.mp4"]


@pytest.mark.parametrize(
    ("output", "names"),
    [
        ("b.mp4", ["b-1.mp4", "b-2.mp4"]),
        ("x/b.tar.gif", ["x/b.tar-1.gif", "x/b.tar-2.gif"]),
        ("{seed}.mp4", ["7.mp4", "8.mp4"]),
        ("c{index}_{seed}.webp", ["c1_7.webp", "c2_8.webp"]),
        ("frames/", ["frames-1/", "frames-2/"]),
        ("f{index}_%04d.png", ["f1_%04d.png", "f2_%04d.png"]),
    ],
)
def test_names_of_several(folder: Path, output: str, names: list[str]) -> None:
    assert name_targets(output, prompt="a", seeds=[7, 8]) == names


def test_folder_that_exists_gets_numbered_brothers(folder: Path) -> None:
    Path("out").mkdir()
    assert name_targets("out", prompt="a", seeds=[7, 8]) == ["out-1/", "out-2/"]


def test_frames_of_several_clips_need_a_field(folder: Path) -> None:
    with pytest.raises(UnwritableTarget, match="index"):
        name_targets("f_%04d.png", prompt="a", seeds=[7, 8])


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("256x144", (256, 144)),
        ("256X144", (256, 144)),
        (" 256×144 ", (256, 144)),
        ("480p", (832, 480)),
        ("720p", (1280, 720)),
        ("square", (96, 96)),
        ("wide", (144, 80)),
        ("tall", (80, 144)),
    ],
)
def test_sizes(text: str, size: tuple[int, int]) -> None:
    assert read_size(text, grid=GRID, defaults=POCKET) == size


@pytest.mark.parametrize("text", ["", "256", "256x", "x144", "-1x5", "256x144x3", "4k", "wide" * 99])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(InvalidRequest, match="WIDTHxHEIGHT") as caught:
        read_size(text, grid=GRID, defaults=POCKET)
    assert len(str(caught.value)) < 200
