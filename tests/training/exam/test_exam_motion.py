"""Motions are named from tracks alone: the world's motions have names, others do not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from homereel.training.exam.motion_reader import WorldTrack, _swings, name_motion
from homereel.training.exam.outline import Pose, refine, templates

TIME = torch.linspace(0, 1, 33)
FLAT = torch.zeros(33)
STILL = WorldTrack(TIME * 2, FLAT, FLAT - 1, FLAT, turn=0.0, by_outline=True)
HOPS = (torch.sin(TIME * 2.5 * math.pi + math.pi / 2)).abs() * 0.6


@pytest.mark.parametrize(
    ("track", "name"),
    [
        (STILL, "still"),
        (replace(STILL, x=-1.0 * TIME), "left"),
        (replace(STILL, x=0.8 * TIME), "right"),
        (replace(STILL, x=0.8 * TIME, turn=3.0, by_outline=False), "right"),
        (replace(STILL, log_radius=0.9 * TIME), "grow"),
        (replace(STILL, log_radius=-0.9 * TIME), "shrink"),
        (replace(STILL, lift=0.6 * TIME), "rise"),
        (replace(STILL, lift=0.9 * (1 - 4 * TIME**2).clamp(min=0)), "fall"),
        (replace(STILL, lift=HOPS), "bounce"),
        (replace(STILL, turn=-3.0), "spin"),
    ],
)
def test_the_worlds_motions_have_names(track: WorldTrack, name: str) -> None:
    assert name_motion(track) == name


@pytest.mark.parametrize(
    "track",
    [
        replace(STILL, x=0.3 * TIME),
        replace(STILL, x=0.3 * torch.sin(9 * TIME)),
        replace(STILL, x=0.8 * TIME, log_radius=-0.9 * TIME),
        replace(STILL, x=0.8 * TIME + 0.25 * torch.sin(40 * TIME)),
        replace(STILL, x=0.8 * TIME, turn=3.0),
        replace(STILL, lift=0.6 * TIME, turn=3.0),
        replace(STILL, lift=0.6 * torch.sin(math.pi * TIME)),
        replace(STILL, lift=0.6 * torch.sin(18 * TIME).abs()),
        replace(STILL, turn=1.5),
        replace(STILL, turn=None),
    ],
    ids=["drift", "sway", "both", "jitter", "tumble", "turning rise", "one hop", "shaking", "half turn", "jerks"],
)
def test_other_motions_have_none(track: WorldTrack) -> None:
    assert name_motion(track) is None


@pytest.mark.parametrize(
    ("heights", "swings"),
    [
        ([0.0, 0.1, 0.0, 0.1], []),
        ([0.0, 1.0], ["up"]),
        ([1.0, 0.5, 0.0, 0.2, 0.0], ["down"]),
        ([1.0, 0.0, 0.8, 0.0, 0.6], ["down", "up", "down", "up"]),
        ([0.0, 0.2, 0.1, 0.9, 0.1], ["up", "down"]),
    ],
)
def test_swings(heights: list[float], swings: list[str]) -> None:
    assert _swings(heights, 0.35) == swings


def paint(shape: str, *, x: float, y: float, radius: float, angle: float) -> Tensor:
    from homereel.training.world.draw import signed_distance

    line = (torch.arange(48) + 0.5) / 24 - 1
    v, u = torch.meshgrid(line, line, indexing="ij")
    dx, dy = (u - x) / radius, (v - y) / radius
    cos, sin = math.cos(angle), math.sin(angle)
    return (0.5 - signed_distance(shape, cos * dx + sin * dy, cos * dy - sin * dx) * radius * 16).clamp(0, 1)


@pytest.mark.parametrize("template", templates(), ids=lambda template: template.shape)
def test_an_outline_finds_its_shape(template: object) -> None:
    from homereel.training.exam.outline import Template

    assert isinstance(template, Template)
    mask = paint(template.shape, x=0.1, y=-0.2, radius=0.4, angle=0.2)[None]
    one = torch.ones(1)
    start = Pose(0.15 * one, -0.1 * one, 0.33 * one, 0.0 * one, one, one)
    found = refine(mask, start, template, aspect=1.0, num_steps=10)
    offset = 0.4 * float(template.centre_y)
    assert float(found.x) == pytest.approx(0.1 - offset * math.sin(0.2), abs=0.02)
    assert float(found.y) == pytest.approx(-0.2 + offset * math.cos(0.2), abs=0.02)
    assert float(found.radius) == pytest.approx(0.4, rel=0.05)
    assert float(found.error) < 0.03
    if template.shape in ("box", "triangle", "star"):
        assert float(found.angle) == pytest.approx(0.2, abs=0.05)
