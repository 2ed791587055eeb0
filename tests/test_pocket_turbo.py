"""The student that comes with the package: few steps, no guidance, the same world."""

from __future__ import annotations

from pathlib import Path

import pytest

import homereel
from homereel.engine.replay import replay
from homereel.models.model_list import model_info
from homereel.models.students import student_of
from homereel.training.exam import read_clip
from homereel.weights.model_folder import packaged_folder

MAX_BYTES = 40 * 2**20
PROMPT = "a red ball bounces on a green floor"


@pytest.mark.parametrize("steps", [4, 2, 1])
def test_few_steps_show_what_was_asked(steps: int, tmp_path: Path) -> None:
    clip = homereel.generate(PROMPT, model="pocket-turbo", seed=7, steps=steps)
    assert (clip.plan.steps, clip.plan.guidance, clip.plan.sampler) == (steps, 1.0, "rcm-ode")
    assert not clip.plan.warnings
    reading = read_clip(clip.frames, fps=clip.fps)
    assert (reading.color, reading.floor, reading.motion) == ("red", "green", "bounce")
    if steps == 4:
        assert replay(clip.save(tmp_path / "ball.mp4")).verdict == "exact"


def test_a_large_clip_is_made_with_the_sparse_attention_it_learnt(tmp_path: Path) -> None:
    clip = homereel.generate("a yellow ball stands still on a green floor", model="pocket-turbo", seed=7, width=208,
                             height=208)  # fmt: skip
    assert clip.plan.num_tokens == 1521
    assert clip.plan.passes[0] == "sparse_attention:0.17:first_layers=0:first_steps=0:order=wth"
    assert not any("sparse" in warning for warning in clip.plan.warnings)
    reading = read_clip(clip.frames, fps=clip.fps)
    assert (reading.color, reading.floor, reading.motion) == ("yellow", "green", "still")
    assert replay(clip.save(tmp_path / "ball.mp4")).verdict == "exact"


def test_it_stands_in_for_pocket() -> None:
    assert student_of("pocket") == "pocket-turbo"
    assert student_of("pocket-turbo") is None
    teacher, student = model_info("pocket"), model_info("pocket-turbo")
    assert teacher.words == student.words
    assert teacher.bytes is not None
    assert student.bytes is not None
    assert teacher.bytes + student.bytes <= MAX_BYTES


def test_both_make_latents_of_one_kind() -> None:
    """So that what one drafts the other can refine."""
    folders = [packaged_folder(name) for name in ("pocket", "pocket-turbo")]
    decoders = [folder.weight_files("vae")[0].read_bytes() for folder in folders if folder is not None]
    assert len(decoders) == 2
    assert decoders[0] == decoders[1]
