"""`homereel info` and `homereel replay` on files that `generate` made."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from homereel import media
from homereel.core.sound import Sound
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


def test_info_tells_what_a_clip_was_made_from(cli: Cli) -> None:
    given = {
        "prompt": "a ball",
        "image": "first one.png",
        "last": "b.png",
        "keyframes": [{"image": "c.png", "seconds": 2.0}, {"image": "d.png", "frame": 7}],
        "video": "e.mp4",
        "strength": 0.6,
        "mask": "f.png",
        "references": ["g.png", "h.png"],
        "sound": False,
        "loras": [{"path": "i.safetensors", "strength": 0.8}],
    }
    record = {"homereel": {"schema": 1, "request": given, "resolved": {"seed": 7}}}
    media.write_clip(np.zeros((5, 32, 32, 3), np.uint8), "made.mp4", fps=8, record=record)
    lines = cli("info", "made.mp4").out.splitlines()
    inputs = (
        "--image 'first one.png' --last b.png --video e.mp4 --strength 0.6 --mask f.png --keyframe 2s=c.png "
        "--keyframe 7=d.png --reference g.png --reference h.png --lora i.safetensors:0.8"
    )
    commands = [line.split(maxsplit=3)[3] for line in lines if line.startswith("as a command")]
    assert commands == [f"homereel generate 'a ball' --seed 7 {inputs} --no-audio"]
    made_from = [line.split(maxsplit=2)[2] for line in lines if line.startswith("made from")]
    assert made_from == [inputs.replace("'", "")]


def test_info_tells_of_sound(cli: Cli) -> None:
    frames = np.zeros((16, 32, 32, 3), np.uint8)
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (24_000, 2)).astype(np.float32)
    media.write_clip(frames, "still.mp4", fps=8)
    media.write_clip(frames, "loud.mp4", fps=8, sound=Sound(samples, 24_000))
    assert cli("info", "still.mp4", "--json").json["sound"] is None
    assert not [line for line in cli("info", "still.mp4").out.splitlines() if line.startswith("sound")]
    told = cli("info", "loud.mp4", "--json").json["sound"]
    assert told == {"codec": "aac", "rate": 24_000, "num_channels": 2, "seconds": 2.0}
    line = next(line for line in cli("info", "loud.mp4").out.splitlines() if line.startswith("sound"))
    assert line.split(maxsplit=1)[1] == "aac, stereo, 24 kHz, 2.0 s"


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
