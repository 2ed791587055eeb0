"""The commands of workflows with a tiny model: from drafts to a film, each from the files that the one before left."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from homereel import media
from homereel.core.sound import Sound
from homereel.engine.kept import kept_path
from tests.cli.conftest import Cli


@pytest.fixture
def drafted(cli: Cli, tiny_image_model_dir: Path, folder: Path) -> Path:
    """A clip of a tiny model with its latents beside it."""
    done = cli("drafts", "a red ball", "-m", tiny_image_model_dir, "--num", "1", "--seed", "5", "-o", "tries", "--json")
    assert done.code == 0, done.err
    return folder / "tries" / "draft-1.mp4"


def test_drafts_are_a_folder_of_clips_and_a_sheet(cli: Cli, tiny_model_dir: Path, folder: Path) -> None:
    words = ["drafts", "a red ball", "--or", "a blue cube", "--num", "2", "--seed", "5", "-m", tiny_model_dir]
    told = cli(*words, "-o", "tries", "--json").json
    clips = [Path("tries") / f"draft-{number}.mp4" for number in (1, 2, 3, 4)]
    assert told["files"] == [str(Path("tries") / "sheet.png"), *map(str, clips)]
    assert [clip["seed"] for clip in told["clips"]] == [5, 6, 5, 6]
    assert all(kept_path(clip).is_file() for clip in clips)
    with Image.open("tries/sheet.png") as sheet:
        assert sheet.width > 2 * 5 * 32
    record = media.read_record(clips[2])
    assert record is not None
    assert record["homereel"]["request"]["prompt"] == "a blue cube"


def test_refine_starts_from_what_drafts_left(cli: Cli, drafted: Path) -> None:
    told = cli("refine", drafted, "--size", "48x48", "--strength", "0.5", "--steps", "4", "--json").json
    (clip,) = told["clips"]
    assert clip["file"] == "draft-1-refined.mp4"
    assert (clip["plan"]["width"], clip["plan"]["strength"], clip["seed"]) == (48, 0.5, 5)
    assert clip["parent"] == "draft-1"
    record = media.read_record("draft-1-refined.mp4")
    assert record is not None
    assert set(record["homereel"]["inputs"]) == {"refine"}


def test_extend_makes_one_longer_clip(cli: Cli, drafted: Path) -> None:
    told = cli("extend", drafted, "--frames", "4", "-o", "longer.mp4", "--json").json
    assert told["clips"][0]["plan"]["extend_from"] == 5
    assert media.probe("longer.mp4").num_frames == 9
    again = cli("extend", "longer.mp4", "--frames", "8", "-o", "longest.mp4", "--json").json
    assert again["clips"][0]["plan"]["num_frames"] == 17


def test_vary_counts_on_from_the_clips_seed(cli: Cli, drafted: Path) -> None:
    told = cli("vary", drafted, "--num", "2", "-o", "more", "--json").json
    assert [clip["seed"] for clip in told["clips"]] == [6, 7]
    assert Path("more/sheet.png").is_file()


def test_upscale_by_filters_asks_no_model(cli: Cli, folder: Path) -> None:
    frames = np.zeros((5, 32, 48, 3), np.uint8)
    for index in range(5):
        frames[index, 8:24, 4 + 6 * index : 20 + 6 * index] = 255
    media.write_clip(frames, "a.mp4", fps=8)
    told = cli("upscale", "a.mp4", "--filter", "--scale", "3", "-o", "b.mp4", "--json").json
    assert told["files"] == ["b.mp4"]
    found = media.probe("b.mp4")
    assert (found.width, found.height, found.num_frames, found.fps) == (144, 96, 5, 8)
    cli("upscale", "a.mp4", "--smooth", "2", "-o", "c.mp4")
    smooth = media.read_clip("c.mp4")
    assert (len(smooth.frames), smooth.fps) == (9, 16)
    columns = smooth.frames[:, 16].mean(axis=-1) > 128
    middle = [float(np.flatnonzero(row).mean()) for row in columns]
    assert middle == sorted(middle), "the square moves right in every frame"


def test_upscale_that_changes_nothing_or_mixes_ways_is_refused(cli: Cli, folder: Path) -> None:
    media.write_clip(np.zeros((2, 32, 32, 3), np.uint8), "a.mp4", fps=8)
    assert "nothing is to be changed" in cli("upscale", "a.mp4", "--filter", "--scale", "1").complaint
    assert "ask no model" in cli("upscale", "a.mp4", "--filter", "--steps", "4").complaint


def test_a_foreign_clip_needs_words(cli: Cli, folder: Path) -> None:
    media.write_clip(np.zeros((2, 32, 32, 3), np.uint8), "a.mp4", fps=8)
    assert "--prompt" in cli("refine", "a.mp4").complaint


def test_a_storyboard_becomes_one_film(cli: Cli, tiny_image_model_dir: Path, folder: Path) -> None:
    """The second shot goes on from the first and holds it; the third is cut to."""
    shots = [
        {"prompt": "a red ball"},
        {"prompt": "a blue ball", "continues": True, "seconds": 0.5},
        {"prompt": "a cube"},
    ]
    Path("film.json").write_text(json.dumps({"model": str(tiny_image_model_dir), "seed": 3, "shots": shots}))
    told = cli("storyboard", "film.json", "-o", "film.mp4", "--shots", "shots", "--json").json
    assert told["files"][0] == "film.mp4"
    assert [clip["plan"]["num_frames"] for clip in told["clips"]] == [5, 9, 5]
    film = media.read_clip("film.mp4")
    assert len(film.frames) == 9 + 5
    assert film.fps == 8


def test_clips_are_joined_with_their_sound(cli: Cli, folder: Path) -> None:
    frames = np.zeros((8, 32, 32, 3), np.uint8)
    hum = 0.3 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000)
    media.write_clip(frames, "a.mp4", fps=8)
    media.write_clip(frames + 90, "b.mp4", fps=8, sound=Sound(hum[:, None].astype(np.float32), 48_000))
    told = cli("join", "a.mp4", "b.mp4", "a.mp4", "--title", "Three", "-o", "film.mp4", "--json").json
    assert (told["files"], told["num_frames"], told["has_sound"]) == (["film.mp4"], 24, True)
    shown = cli("info", "film.mp4").out
    assert "Three" in shown
    assert "make its clips again" in shown
    assert "film.mp4 is a film, joined of 3 clips" in cli("replay", "film.mp4").complaint
    media.write_clip(frames, "quick.mp4", fps=16)
    assert "quick.mp4 is 32x32 at 16 fps, and a.mp4" in cli("join", "a.mp4", "quick.mp4").complaint


def test_the_plan_of_a_storyboard_makes_nothing(cli: Cli, folder: Path) -> None:
    Path("film.toml").write_text('[[shots]]\nprompt = "a red ball"\n[[shots]]\nprompt = "a box"\ncontinues = true\n')
    done = cli("storyboard", "film.toml", "--plan")
    assert done.out == "shot-1: a red ball\nshot-2 (goes on): a box\n"
    assert [path.name for path in folder.iterdir()] == ["film.toml"]


def test_prompt_is_one_line_for_generate(cli: Cli) -> None:
    done = cli("prompt", "--subject", "a red ball", "--action", "bounces", "--scene", "on a green floor")
    assert done.out == "a red ball bounces on a green floor\n"


def test_a_writer_that_is_none_is_told(cli: Cli, folder: Path) -> None:
    assert "no language model" in cli("prompt", "--subject", "a red ball", "--writer", folder).complaint
