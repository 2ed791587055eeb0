"""The model that comes with the package: what it shows, that it is repeatable, and that diffusers loads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import homereel
from homereel.engine.replay import replay
from homereel.models.model_list import model_info
from homereel.training.exam import read_clip
from homereel.training.world.scene import FLOOR_COLORS, OBJECT_COLORS
from homereel.weights.model_folder import packaged_folder

MAX_BYTES = 40 * 2**20
PROMPT = "a red ball bounces on a green floor"


@pytest.fixture(scope="module")
def clip() -> homereel.Result:
    return homereel.generate(PROMPT, seed=7, steps=16)


@pytest.fixture(scope="module")
def night() -> homereel.Result:
    return homereel.generate("a yellow box stands still on a blue floor at night", seed=7, steps=4)


def test_it_shows_what_was_asked(clip: homereel.Result) -> None:
    assert clip.frames.shape == (33, 96, 96, 3)
    reading = read_clip(clip.frames, fps=clip.fps)
    assert (reading.color, reading.floor, reading.light, reading.camera) == ("red", "green", "day", "static")
    assert reading.motion == "bounce"


def test_another_prompt_shows_something_else(night: homereel.Result) -> None:
    reading = read_clip(night.frames, fps=night.fps)
    assert (reading.color, reading.floor, reading.light) == ("yellow", "blue", "night")


def test_its_file_is_made_again_exactly(night: homereel.Result, tmp_path: Path) -> None:
    path = night.save(tmp_path / "box.mp4")
    assert replay(path).verdict == "exact"


def test_a_picture_becomes_the_first_frame(tmp_path: Path) -> None:
    from homereel.training.world import Scene, draw

    scene = Scene(color="blue", shape="box", motion="still", floor="yellow", variation=3)
    picture = draw(scene, num_frames=1).frames_TCHW[0].permute(1, 2, 0).numpy()
    Image.fromarray(picture).save(tmp_path / "first.png")
    film = homereel.generate("a blue box stands still on a yellow floor", image=tmp_path / "first.png", seed=1, steps=8)
    first_error = float(np.abs(film.frames[0].astype(float) - picture).mean())
    last_error = float(np.abs(film.frames[-1].astype(float) - picture).mean())
    assert first_error < 6, "the first frame is the picture, as far as the autoencoder keeps it"
    assert last_error < 25, "a still object stays where the picture has it"


def test_a_wide_clip_is_wide() -> None:
    film = homereel.generate("a green ball rolls left on a white floor", width=144, height=80, seed=2, steps=4)
    assert film.frames.shape == (33, 80, 144, 3)
    reading = read_clip(film.frames, fps=film.fps)
    assert (reading.color, reading.floor) == ("green", "white")


def test_it_is_small_and_tells_its_words() -> None:
    info = model_info("pocket")
    assert info.installed
    assert info.bytes is not None
    assert info.bytes <= MAX_BYTES
    assert set(info.words["colors"]) == set(OBJECT_COLORS)
    assert set(info.words["floors"]) == set(FLOOR_COLORS)


def test_diffusers_own_pipeline_loads_it() -> None:
    import torch
    from diffusers import WanPipeline

    folder = packaged_folder("pocket")
    assert folder is not None
    pipeline = WanPipeline.from_pretrained(folder.path, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    frames = pipeline(
        PROMPT,
        negative_prompt="",
        width=96,
        height=96,
        num_frames=33,
        num_inference_steps=2,
        guidance_scale=4.0,
        max_sequence_length=32,
        generator=torch.Generator().manual_seed(7),
        output_type="np",
    ).frames[0]
    ours = homereel.generate(PROMPT, seed=7, steps=2).frames
    assert np.abs((frames * 255).round() - ours.astype(float)).max() <= 2, "the same film, up to rounding to bytes"
