"""Reads the object's surface: its colour once light and shading are divided out, and how far its half-tone turns.

A ball or a ring has one darker half, so that its turning can be seen; other shapes show it by their outline.

Shape letters: T frames, S samples of the patch, C channels, N readable samples of all frames, K names or rates tried.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from homereel.training.exam.outline import Pose, Template, patch_grid, sample_patch
from homereel.training.world.scene import OBJECT_COLORS, ROLLING_SHAPES

CORE = -0.14
"""Samples at least so far inside the outline (in radii) are read; the edge is mixed with the background."""
MAX_COLOR_DISTANCE = 0.42
MIN_AGREEMENT = 0.6
"""At least this share of the surface must have the named colour by itself."""
HALF_TONE = 0.85
"""What the darker half leaves of the tone on average."""
TURNS = torch.linspace(-1.75, 1.75, 141) * math.pi
MIN_COHERENCE = 0.7


@dataclass(frozen=True)
class Surface:
    """The object's colours on every frame's patch, well inside its outline: `colors_TCS`, `seen_TS` (1: inside the
    frame), and the shading that the world gives there (`tone_S`, `gloss_S`) at the places `x_S`, `y_S`."""

    colors_TCS: Tensor
    seen_TS: Tensor
    tone_S: Tensor
    gloss_S: Tensor
    x_S: Tensor
    y_S: Tensor


def sample_surface(day_TCHW: Tensor, pose: Pose, template: Template, *, aspect: float) -> Surface:
    """Look at the object through its outline. A rolling shape's patch stays upright, so that its turning shows."""
    rolling = template.shape in ROLLING_SHAPES
    upright = replace(pose, angle=torch.zeros_like(pose.angle)) if rolling else pose
    core = template.distance_S < CORE
    colors, seen = sample_patch(day_TCHW, upright, aspect=aspect, only_S=core)
    x, y = (line[core] for line in patch_grid())
    tone, gloss = _shading(template.shape, x, y)
    return Surface(colors, seen, tone, gloss, x, y)


def name_color(surface: Surface, *, frames: Tensor) -> tuple[str | None, float]:
    """The nearest of the world's object colours, and the share of the surface that has it by itself."""
    readable = (surface.gloss_S < 0.06) & (surface.tone_S > 0.55)
    paint_TCS = (surface.colors_TCS - surface.gloss_S) / surface.tone_S
    paint_NC = paint_TCS[frames][:, :, readable].transpose(1, 2)[surface.seen_TS[frames][:, readable] > 0]
    if len(paint_NC) < 20:
        return None, 0.0
    palette_KC = torch.tensor(list(OBJECT_COLORS.values()))
    distance_K = _hue_distance(paint_NC.median(0, keepdim=True).values, palette_KC)[0]
    best = int(distance_K.argmin())
    votes = _hue_distance(paint_NC, palette_KC).argmin(1)
    share = float((votes == best).float().mean())
    sure = float(distance_K[best]) < MAX_COLOR_DISTANCE and share > MIN_AGREEMENT
    return list(OBJECT_COLORS)[best] if sure else None, share


def read_half_turn(surface: Surface, *, frames: Tensor) -> float | None:
    """The whole rotation that the darker half of a ball or ring makes, in radians; None where no half is darker.

    The half's direction in every frame is a point on a circle; the rate of turning that lines all of them up wins.
    """
    readable = surface.gloss_S < 0.04
    tone_S = surface.tone_S[readable]
    plain_TCS = surface.colors_TCS[:, :, readable] / tone_S
    color_C = plain_TCS.transpose(0, 1).flatten(1).median(1).values
    bright_TS = torch.einsum("tcs,c->ts", plain_TCS, color_C) / float(color_C @ color_C + 1e-4)
    design_SP = torch.stack([torch.ones_like(tone_S), surface.x_S[readable], surface.y_S[readable]], 1)
    weight_TS = surface.seen_TS[:, readable] * frames[:, None] * tone_S**2
    outer_SP = (design_SP[:, :, None] * design_SP[:, None, :]).flatten(1)
    normal_TPP = (weight_TS @ outer_SP).view(-1, 3, 3) + 0.02 * torch.eye(3)
    plane_TP = torch.linalg.solve(normal_TPP, ((weight_TS * bright_TS) @ design_SP)[..., None])[..., 0]
    slope_T = torch.complex(-plane_TP[:, 1], -plane_TP[:, 2])
    share_T = torch.linspace(0, 1, len(slope_T))
    waves_KT = torch.polar(torch.ones(len(TURNS), len(slope_T)), -TURNS[:, None] * share_T)
    power_K = (waves_KT @ slope_T).abs() / slope_T.abs().sum().clamp(min=1e-6)
    best = int(power_K.argmax())
    return float(TURNS[best]) if float(power_K[best]) > MIN_COHERENCE else None


def _hue_distance(a_NC: Tensor, b_KC: Tensor) -> Tensor:
    """Distances between colours; a difference in brightness alone counts half."""
    difference = a_NC.clamp(0, 1.1)[:, None] - b_KC[None]
    squares, total = (difference**2).sum(-1), difference.sum(-1)
    return (squares - 0.75 / 3 * total**2).clamp(min=0).sqrt()


def _shading(shape: str, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Usual tone and highlight well inside a shape."""
    if shape == "ball":
        facing = (0.70 * (1 - x * x - y * y).clamp(min=0).sqrt() - 0.45 * x - 0.55 * y).clamp(min=0)
        return (0.50 + 0.55 * facing) * HALF_TONE, 0.5 * facing**16
    if shape == "ring":
        return (0.88 - 0.13 * y - 0.05 * x) * HALF_TONE, torch.zeros_like(x)
    return torch.full_like(x, 0.88), torch.zeros_like(x)
