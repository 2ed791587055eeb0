"""`homereel info` and `homereel replay` on files that `generate` made."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from homereel import media
from tests.cli.conftest import Cli


@pytest.fixture
def clip(generate: Cli, folder: Path) -> Path:
    assert generate("a red ball; it's", "-o", "a.mp4", "--seed", "7").code == 0
    return folder / "a.mp4"


def test_info_tells_content_and_recipe(cli: Cli, clip: Path) -> None:
    shown = cli("info", clip)
    assert shown.code == 0
    for words in ("32x32", "5 frames at 8 fps", "a red ball; it's", "seed 7", f"homereel replay {clip}"):
        assert words in shown.out
    told = cli("info", clip, "--json").json
    assert told["kind"] == "mp4"
    assert told["num_frames"] == 5
    assert told["record"] == media.read_record(clip)


def test_the_command_that_info_tells_makes_the_same_clip(cli: Cli, clip: Path) -> None:
    line = next(line for line in cli("info", clip).out.splitlines() if line.startswith("as a command"))
    words = shlex.split(line.removeprefix("as a command").strip())
    assert words[0] == "homereel"
    again = cli(*words[1:], "-o", "again.mp4", "--json").json
    record = media.read_record(clip)
    assert record is not None
    assert again["frames_sha256"] == record["homereel"]["frames_sha256"]


def test_info_of_a_foreign_file(cli: Cli) -> None:
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save("b.png")
    shown = cli("info", "b.png")
    assert "6x4" in shown.out
    assert "no record" in shown.out
    assert cli("info", "b.png", "--json").json["record"] is None


def test_replay_is_exact(cli: Cli, clip: Path) -> None:
    done = cli("replay", clip, "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json == {"verdict": "exact", "psnr": None, "reasons": []}
    assert cli("replay", clip, "-q", "-o", "again.mp4").out == "exact\n"
    assert np.array_equal(media.read_clip("again.mp4").frames, media.read_clip(clip).frames)
    refused = cli("replay", clip, "-o", "nowhere/again.mp4")
    assert refused.code == 2
    assert "nowhere" in refused.complaint


def test_replay_of_an_edited_file_is_changed(cli: Cli, clip: Path) -> None:
    frames, record = media.read_clip(clip).frames, media.read_record(clip)
    media.write_clip(255 - frames, "b.mp4", fps=8, record=record)
    done = cli("replay", "b.mp4", "--json")
    assert done.code == 1
    assert done.json["verdict"] == "changed"
    assert done.json["psnr"] < 30
    assert done.json["reasons"]
    told = cli("replay", "b.mp4")
    assert told.code == 1
    assert told.out.startswith("changed: it came out different")


def test_replay_without_a_recipe(cli: Cli, generate: Cli) -> None:
    media.write_clip(np.zeros((5, 32, 32, 3), np.uint8), "plain.mp4", fps=8)
    done = cli("replay", "plain.mp4")
    assert done.code == 2
    assert "no record" in done.complaint
    assert generate("a ball", "-o", "hidden.mp4", "--private").code == 0
    assert cli("replay", "hidden.mp4", "-q").code == 2
    assert "not possible" in cli("info", "hidden.mp4").out
