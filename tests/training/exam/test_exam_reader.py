"""The reader is sharp: drawn clips are read right, also damaged ones and of all sizes; wrong clips never are."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from homereel.core.errors import InvalidRequest
from homereel.training.exam import TRAITS, ClipSize, Question, Reading, grade, grade_drawn, make_questions, read_clip
from homereel.training.world import Scene, draw
from homereel.training.world.scene import CAMERAS, FLOOR_COLORS, LIGHTS, MOTIONS, OBJECT_COLORS, SHAPES

from . import damage

NAMES = {
    "color": tuple(OBJECT_COLORS),
    "shape": SHAPES,
    "motion": MOTIONS,
    "floor": tuple(FLOOR_COLORS),
    "camera": CAMERAS,
    "light": tuple(LIGHTS),
}


def all_asked(num: int, *, seed: int) -> list[Question]:
    """Questions that ask all six traits, with any camera and light."""
    rng = random.Random(f"all {seed}")
    asked = []
    for question in make_questions(num, seed=seed):
        scene = replace(question.scene, camera=rng.choice(CAMERAS), light=rng.choice(NAMES["light"]))
        asked.append(replace(question, scene=scene, asked=TRAITS))
    return asked


def assert_all_at_least(share: float, questions: list[Question], **how: object) -> None:
    score = grade_drawn(questions, **how)  # type: ignore[arg-type]
    assert set(score.traits) == set(TRAITS)
    assert min(score.traits.values()) >= share, score.confusions


def test_drawn_clips_are_read_right() -> None:
    questions = all_asked(80, seed=1)
    score = grade_drawn(questions)
    assert min(score.traits.values()) >= 0.97, score.confusions
    assert score.score >= 0.97, score.confusions


def test_damaged_clips_are_read_right() -> None:
    seeds = iter(range(1000))
    assert_all_at_least(
        0.94, all_asked(40, seed=2), through=lambda frames: damage.all_at_once(frames, seed=next(seeds))
    )


@pytest.mark.parametrize(
    "size",
    [
        ClipSize(height=96, width=160),
        ClipSize(height=80, width=144),
        ClipSize(height=128, width=128),
        ClipSize(num_frames=17),
        ClipSize(num_frames=49, fps=24.0),
    ],
    ids=lambda size: f"{size.width}x{size.height}x{size.num_frames}",
)
def test_every_size_is_read_right(size: ClipSize) -> None:
    assert_all_at_least(0.93, all_asked(16, seed=3), size=size)


@pytest.mark.parametrize("trait", TRAITS)
def test_a_swapped_trait_is_wrong_and_the_others_stay_right(trait: str) -> None:
    rng = random.Random(f"swap {trait}")
    readings, questions = [], all_asked(16, seed=4)
    for question in questions:
        own = getattr(question.scene, trait)
        taken = {own, question.scene.color, question.scene.floor}
        swapped: dict[str, str] = {trait: rng.choice([name for name in NAMES[trait] if name not in taken])}
        readings.append(read_clip(draw(replace(question.scene, **swapped)).frames_TCHW, fps=16.0))  # type: ignore[arg-type]
    score = grade(readings, questions)
    assert score.traits.pop(trait) == 0
    assert min(score.traits.values()) >= 0.93, score.confusions


def test_what_is_no_clip_of_the_world_has_no_traits() -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (33, 3, 96, 96)
    flat = {f"flat {level}": torch.full(shape, level, dtype=torch.uint8) for level in (0, 60, 127, 153, 255)}
    noise = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    patches = torch.nn.functional.interpolate(torch.rand(33, 3, 6, 6, generator=generator), (96, 96)) * 255
    drawn = draw(Scene("red", "ball", "bounce", "green", variation=1)).frames_TCHW
    scattered = drawn.flatten(2)[:, :, torch.randperm(96 * 96, generator=generator)].view(shape)
    nothing = {"noise": noise, "patches": damage.as_bytes(patches), "pixels": scattered, "head down": drawn.flip(2)}
    for name, frames in (flat | nothing).items():
        assert read_clip(frames, fps=16.0) == Reading(), name


def test_a_clip_without_an_object_has_floor_light_and_camera_only() -> None:
    drawn = draw(Scene("red", "ball", "still", "green", camera="pan left", variation=1))
    off_screen = draw(Scene("red", "ball", "left", "green", variation=1)).frames_TCHW
    empty = torch.where(torch.arange(96) < 48, off_screen[:8].median(0).values, off_screen[-8:].median(0).values)
    reading = read_clip(empty.expand_as(drawn.frames_TCHW), fps=16.0)
    assert reading == Reading(floor="green", camera="static", light="day")


def test_shuffled_frames_leave_motion_and_camera_to_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    right = {"motion": 0, "camera": 0}
    for index in range(27):
        motion, camera = MOTIONS[index % 9], CAMERAS[index % 4]
        scene = Scene("blue", SHAPES[index % 5], motion, "yellow", camera, variation=index)
        frames = draw(scene).frames_TCHW[torch.randperm(33, generator=generator)]
        reading = read_clip(frames, fps=16.0)
        right["motion"] += reading.motion == motion
        right["camera"] += reading.camera == camera
    assert right["motion"] <= 27 / 9 + 1
    assert right["camera"] <= 27 / 4 + 1


@pytest.mark.parametrize(
    ("make", "traits"),
    [
        (lambda one, two: torch.cat([one[:16], two[16:]]), ("color", "shape", "floor")),
        (lambda one, two: torch.cat([one[..., :48], two[..., 48:]], 3), ("color", "floor")),
        (lambda one, two: (one.float() + two.float()).div(2).to(torch.uint8), ("color", "floor")),
    ],
    ids=["one after the other", "side by side", "blended"],
)
def test_half_of_what_was_asked_is_wrong(make: object, traits: tuple[str, ...]) -> None:
    one = draw(Scene("red", "box", "left", "green", variation=2)).frames_TCHW
    two = draw(Scene("yellow", "ball", "grow", "blue", variation=3)).frames_TCHW
    assert callable(make)
    reading = read_clip(make(one, two), fps=16.0)
    wrong = [trait for trait in traits if getattr(reading, trait) is None]
    assert wrong == list(traits)


def test_two_objects_are_no_shape() -> None:
    ends = [
        draw(Scene("red", "ball", motion, "green", variation=2), width=160).frames_TCHW[-1]
        for motion in ("left", "right")
    ]
    one = torch.cat([ends[0][..., :80], ends[0][..., 80:]], 2).expand(33, -1, -1, -1)
    two = torch.cat([ends[0][..., :80], ends[1][..., 80:]], 2).expand(33, -1, -1, -1)
    assert read_clip(one, fps=16.0) == Reading("red", "ball", "still", "green", "static", "day")
    assert read_clip(two, fps=16.0).shape is None


def test_a_shape_that_changes_is_none() -> None:
    clips = [draw(Scene("red", shape, "still", "green", variation=2)).frames_TCHW for shape in ("ball", "box", "ring")]
    assert read_clip(torch.cat([clips[0][:16], clips[1][16:]]), fps=16.0).shape is None
    assert read_clip(torch.cat([clips[1][:16], clips[2][16:]]), fps=16.0).shape is None


def test_numpy_torch_and_floats_read_alike() -> None:
    frames = draw(Scene("pink", "star", "rise", "gray", "zoom in", "sunset", variation=9)).frames_TCHW
    expected = Reading(color="pink", shape="star", motion="rise", floor="gray", camera="zoom in", light="sunset")
    as_numpy: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = frames.permute(0, 2, 3, 1).numpy()
    assert read_clip(frames, fps=16.0) == expected
    assert read_clip(as_numpy, fps=16.0) == expected
    assert read_clip(frames.float() / 255, fps=16.0) == expected


@pytest.mark.parametrize("frames", [torch.zeros(4, 3, 96, 96), torch.zeros(33, 1, 96, 96), np.zeros((33, 3, 96, 96))])
def test_what_is_no_clip_is_refused(frames: Tensor) -> None:
    with pytest.raises(InvalidRequest, match="a clip is read from"):
        read_clip(frames, fps=16.0)


def test_reading_is_fast() -> None:
    frames = draw(Scene("red", "star", "spin", "green", variation=1)).frames_TCHW
    read_clip(frames, fps=16.0)
    started = time.process_time()
    for _ in range(4):
        read_clip(frames, fps=16.0)
    assert (time.process_time() - started) / 4 < 1 / 8
