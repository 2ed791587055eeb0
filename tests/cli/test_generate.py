"""`homereel generate` with a tiny model: the file, the line, the JSON, the names, what is told."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from homereel import media
from tests.cli.conftest import Cli

LINE = r"^ball\.mp4: 0\.62 s of film in \d+\.\d s, peak memory [\d.]+ [MG]B, seed 7\n$"


def test_one_line_and_one_file(generate: Cli, folder: Path) -> None:
    done = generate("a red ball", "-o", "ball.mp4", "--seed", "7")
    assert done.code == 0
    assert re.match(LINE, done.out), done.out
    assert [path.name for path in folder.iterdir()] == ["ball.mp4"]
    assert media.probe("ball.mp4").num_frames == 5


def test_json_tells_everything(generate: Cli) -> None:
    done = generate("a red ball", "-o", "ball.mp4", "--seed", "7", "--size", "40x33", "--json")
    told = done.json
    assert done.err == ""
    assert told["file"] == "ball.mp4"
    assert told["files"] == ["ball.mp4"]
    assert told["seed"] == 7
    assert set(told["split"]) == {"load", "text", "denoise", "decode", "write", "other"}
    assert sum(told["split"].values()) == pytest.approx(told["seconds"], abs=0.01)
    assert told["peak_bytes"] > 1e6
    assert told["plan"]["width"], told["plan"]["height"] == (48, 32)
    assert len(told["adjustments"]) == 2
    assert told["warnings"] == told["plan"]["warnings"]
    record = media.read_record("ball.mp4")
    assert record is not None
    assert told["frames_sha256"] == record["homereel"]["frames_sha256"]


def test_same_seed_same_frames_other_seed_others(generate: Cli) -> None:
    first, again, other = (
        generate("a red ball", "-o", "a.mp4", "--seed", seed, "--json").json for seed in ("7", "7", "8")
    )
    assert first["frames_sha256"] == again["frames_sha256"] != other["frames_sha256"]


def test_options_reach_the_plan(generate: Cli) -> None:
    options = {"fps": 12, "steps": 2, "guidance": 1.5, "shift": 3.5, "sampler": "euler", "seed": 4294967295}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    plan = generate("a ball", *words, "--seconds", "0.75", "--json").json["plan"]
    assert {name: plan[name] for name in options} == options
    assert plan["num_frames"] == 9
    asked = generate("a ball", "--frames", "9", "--negative", "a cube", "--json").json
    record = media.read_record(asked["file"])
    assert record is not None
    assert record["homereel"]["request"]["negative_prompt"] == "a cube"
    assert asked["plan"]["num_frames"] == 9


def test_first_picture(cli: Cli, tiny_image_model_dir: Path, folder: Path) -> None:
    Image.fromarray(np.full((48, 64, 3), 200, np.uint8)).save("first.png")
    words = ["generate", "a ball", "-m", tiny_image_model_dir, "--seed", "7", "--size", "64x48", "--json"]
    plain, begun = cli(*words, "-o", "a.mp4").json, cli(*words, "-o", "b.mp4", "--image", "first.png").json
    assert plain["frames_sha256"] != begun["frames_sha256"]


def test_off_the_grid_is_moved_and_told(generate: Cli) -> None:
    done = generate("a ball", "-o", "a.mp4", "--size", "40x33", "--frames", "6")
    assert done.code == 0
    assert "homereel: width 40 is not a multiple of 16; using 48\n" in done.err
    assert "homereel: height 33 is not a multiple of 16; using 32\n" in done.err
    assert "homereel: num_frames 6 is not of the form 4n + 1; using 5" in done.err
    assert "on cpu: 48x32, 5 frames (0.62 s), 3 steps\n" in done.err
    assert media.probe("a.mp4").width == 48


def test_unknown_words_are_told_even_when_quiet(generate: Cli) -> None:
    done = generate("a red zebra", "-o", "a.mp4", "--quiet")
    assert done.out == "a.mp4\n"
    assert "warning" in done.err
    assert "zebra" in done.err
    assert "wan2.1-t2v-1.3b" in done.err
    assert len(done.err.splitlines()) == 1


def test_automatic_name_never_overwrites(generate: Cli, folder: Path) -> None:
    Path("a-red-ball.mp4").write_bytes(b"precious")
    done = generate("A red: BALL!", "-q")
    assert done.out == "a-red-ball-2.mp4\n"
    assert Path("a-red-ball.mp4").read_bytes() == b"precious"


def test_automatic_name_taken_meanwhile(generate: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from homereel.engine.session import Session

    opened = Session.__enter__

    def slow_start(session: Session) -> Session:
        Path("a-red-ball.mp4").write_bytes(b"precious")
        return opened(session)

    monkeypatch.setattr(Session, "__enter__", slow_start)
    assert generate("a red ball", "-q").out == "a-red-ball-2.mp4\n"
    assert Path("a-red-ball.mp4").read_bytes() == b"precious"


def test_explicit_name_overwrites(generate: Cli) -> None:
    Path("a.mp4").write_bytes(b"old")
    assert generate("a ball", "-o", "a.mp4").code == 0
    assert media.probe("a.mp4").num_frames == 5


def test_several_clips(generate: Cli, folder: Path) -> None:
    done = generate("a ball", "--num", "2", "--seed", "7", "-o", "ball.mp4", "--json")
    assert done.json["files"] == ["ball-1.mp4", "ball-2.mp4"]
    assert [clip["seed"] for clip in done.json["clips"]] == [7, 8]
    assert sorted(path.name for path in folder.iterdir()) == ["ball-1.mp4", "ball-2.mp4"]
    lines = generate("a ball", "-n", "2", "--seed", "7", "-o", "{seed}/b.mp4").complaint
    assert "no folder 7" in lines
    done = generate("a ball", "-n", "2", "--seed", "7", "-o", "b{seed}.mp4", "-q")
    assert done.out == "b7.mp4\nb8.mp4\n"


def test_sidecar_is_the_record_of_the_file(generate: Cli) -> None:
    done = generate("a ball", "-o", "a.mp4", "--sidecar", "--json")
    assert done.json["sidecar"] == "a.mp4.json"
    assert media.read_record("a.mp4.json") == media.read_record("a.mp4")


def test_private_keeps_the_prompt_out_of_both_files(generate: Cli, folder: Path) -> None:
    assert generate("a red ball", "-o", "a.mp4", "--private", "--sidecar").code == 0
    written = b"".join(path.read_bytes() for path in folder.iterdir())
    assert len(list(folder.iterdir())) == 2
    assert b"red ball" not in written


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "f_%04d.png", "frames/"])
def test_formats(generate: Cli, name: str) -> None:
    done = generate("a ball", "-o", name, "--quality", "30", "--json")
    assert done.code == 0, done.err
    assert media.probe(done.json["file"]).record is not None


def test_prompt_from_standard_input(generate: Cli) -> None:
    done = generate("-", "-o", "a.mp4", stdin="\ufeffa red\nball\n".encode())
    assert done.code == 0
    record = media.read_record("a.mp4")
    assert record is not None
    assert record["homereel"]["request"]["prompt"] == "a red ball"
