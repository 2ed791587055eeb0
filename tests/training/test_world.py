"""The world draws what its words say, the same each time."""

from __future__ import annotations

import itertools
import random
import time
from dataclasses import replace

import pytest
import torch

from homereel.training.world import Scene, describe, draw, is_held_out, sample_scene, words
from homereel.training.world.motion import GRAVITY, GROUND, path_of
from homereel.training.world.scene import HELD_OUT_SHARE, OBJECT_COLORS, ROLLING_SHAPES, SHAPES

BALL = Scene(color="red", shape="ball", motion="still", floor="green", variation=5)


def path(scene: Scene, *, num_frames: int = 33):  # type: ignore[no-untyped-def]
    return path_of(scene, num_frames=num_frames, fps=16.0, aspect=1.0)


def test_the_same_seed_gives_the_same_clip_and_caption() -> None:
    first, second = (sample_scene(random.Random(11)) for _ in range(2))
    assert first == second
    assert describe(first, random.Random(1)) == describe(second, random.Random(1))
    assert torch.equal(draw(first).frames_TCHW, draw(second).frames_TCHW)


def test_a_window_is_a_part_of_the_whole() -> None:
    from homereel.training.world.draw import Window

    whole = draw(BALL, num_frames=5)
    part = draw(BALL, num_frames=5, window=Window(top=30, left=20, height=40, width=50))
    assert torch.equal(part.frames_TCHW, whole.frames_TCHW[:, :, 30:70, 20:70])


@pytest.mark.parametrize("color", OBJECT_COLORS)
def test_the_object_has_its_colour(color: str) -> None:
    drawing = draw(replace(BALL, color=color, shape="box"), num_frames=1)
    inside = drawing.frames_TCHW[0, :, drawing.mask_THW[0] > 0.99].float().mean(1) / 255
    wanted = torch.tensor(OBJECT_COLORS[color])
    assert (inside - wanted).abs().max() < 0.16


def test_a_fall_obeys_gravity_until_the_floor() -> None:
    fall = path(replace(BALL, motion="fall"))
    height = GROUND - fall.radius - fall.y
    free = height > 0.05
    until = int(free.logical_not().nonzero()[0])
    acceleration = height[:until].diff().diff() * 16**2
    torch.testing.assert_close(acceleration, torch.full_like(acceleration, -GRAVITY), rtol=0, atol=0.02)
    assert float(height.min()) > -1e-4
    assert float(height[-1]) < 0.05


def test_a_bounce_loses_height_at_each_contact() -> None:
    bounce = path(replace(BALL, motion="bounce"), num_frames=65)
    height = GROUND - bounce.radius - bounce.y
    peaks = [i for i in range(1, 64) if height[i] > height[i - 1] and height[i] >= height[i + 1]]
    tops = [float(height[0]), *(float(height[i]) for i in peaks)]
    assert len(tops) >= 3
    assert all(later < earlier * 0.9 for earlier, later in itertools.pairwise(tops))


@pytest.mark.parametrize("shape", SHAPES)
def test_round_things_roll_without_slipping_and_others_slide(shape: str) -> None:
    right = path(replace(BALL, shape=shape, motion="right"))
    travelled = right.x - right.x[0]
    assert float(travelled[-1]) > 0.9
    expected = travelled / right.radius if shape in ROLLING_SHAPES else torch.zeros_like(travelled)
    torch.testing.assert_close(right.angle, expected)


def test_a_longer_clip_goes_on_where_a_short_one_ends() -> None:
    scene = replace(BALL, motion="bounce")
    torch.testing.assert_close(path(scene, num_frames=65).y[:33], path(scene).y)


def test_training_never_sees_what_the_exam_asks() -> None:
    rng = random.Random(2)
    seen = [sample_scene(rng) for _ in range(3000)]
    assert not any(is_held_out(scene) for scene in seen)
    assert all(scene.color != scene.floor for scene in seen)
    asked = [sample_scene(rng, held_out=True) for _ in range(200)]
    assert all(is_held_out(scene) for scene in asked)
    everything = [replace(scene, floor=floor) for scene in seen for floor in ("gray", "white")]
    share = sum(map(is_held_out, everything)) / len(everything)
    assert abs(share - HELD_OUT_SHARE) < 0.05


def test_captions_name_colour_shape_and_motion_in_known_words() -> None:
    rng, known = random.Random(4), set(words())
    captions = set()
    for _ in range(500):
        scene = sample_scene(rng)
        caption = describe(scene, rng)
        captions.add(caption)
        parts = caption.replace(",", " , ").replace(".", " . ").split()
        assert set(parts) <= known
        assert scene.color in parts
    assert len(captions) > 480
    assert not any(" a orange" in f" {caption}" for caption in captions)


def test_drawing_is_fast_enough_to_train_on() -> None:
    """Twenty clips a second are wanted; a tenth of it is asked here, so that a busy machine does not fail."""
    start = time.process_time()
    for k in range(4):
        draw(replace(BALL, variation=k))
    assert (time.process_time() - start) / 4 < 0.5
