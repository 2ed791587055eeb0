"""Finds the object: how much of every pixel differs from the empty background, whatever is left after the shadow."""

from __future__ import annotations

import torch
from torch import Tensor

from homereel.training.exam.background import Background

FAINT, PLAIN = 0.075, 0.16
"""Differences from the background below FAINT are none of the object; from PLAIN on they tell its colour."""
EDGE_FROM, EDGE_TO = 0.3, 0.75
"""Shares of the way from background to object's colour between which a pixel turns from the one to the other."""
TONES = (0.6, 0.8, 1.0)
"""How dark shading makes parts of an object, roughly; the one nearest to the background counts."""
DEEPEST_SHADOW, BRIGHTEST_FLOOR = 0.5, 1.12
CHROMA_WEIGHT = 2.0
"""A difference in hue tells more than one in brightness, which panels and shading also make."""


def subject_mask(background: Background) -> Tensor:
    """Coverage of every pixel by the object, (T, H, W) in 0..1."""
    difference = _difference(background)
    plain = difference > PLAIN
    if int(plain.sum()) < 10 * len(plain):
        return torch.zeros_like(difference)
    color_C = background.day_TCHW.transpose(0, 1)[:, plain].median(1).values
    whole = _contrast(background, color_C).clamp(min=PLAIN)
    start = (EDGE_FROM * whole).clamp(min=FAINT)
    return ((difference - start) / (EDGE_TO * whole - start).clamp(min=0.05)).clamp(0, 1)


def _difference(background: Background) -> Tensor:
    """How far every pixel is from what the background would show there: wall, floor in any shadow, or their edge."""
    day, wall, ground = background.day_TCHW, background.wall_TCHW, background.ground_TCHW
    top, bottom = _horizon_rows(background.floor_TH)
    difference = torch.empty_like(day[:, 0])
    difference[:, :bottom] = _distance(day[:, :, :bottom] - wall[:, :, :bottom])
    from_ground = _from_ground(day[:, :, top:], ground[:, :, top:])
    difference[:, bottom:] = from_ground[:, bottom - top :]
    near = slice(top, bottom)
    away, step = day[:, :, near] - wall[:, :, near], ground[:, :, near] - wall[:, :, near]
    mix = (away * step).sum(1) / (step**2).sum(1).clamp(min=1e-4)
    from_mix = _distance(away - mix.clamp(0, 1)[:, None] * step)
    on_floor = background.floor_TH[:, near, None] >= 1
    from_ground = from_ground[:, : bottom - top]
    plain = torch.where(on_floor, from_ground, difference[:, near])
    mixed = torch.minimum(torch.minimum(from_mix, from_ground), plain)
    difference[:, near] = torch.where(_near_horizon(background.floor_TH)[:, near, None], mixed, plain)
    return difference


def _contrast(background: Background, color_C: Tensor) -> Tensor:
    """How far the object's colour, as shading may have it, is from wall and floor: (T, H, 1)."""
    wall, ground = background.wall_TCHW.mean(-1, keepdim=True), background.ground_TCHW
    contrast = torch.full_like(wall[:, 0], 9.0)
    edge = _near_horizon(background.floor_TH)[:, :, None]
    for tone in TONES:
        paint = (tone * color_C.view(1, 3, 1, 1)).expand_as(wall)
        from_wall, from_ground = _distance(paint - wall), _from_ground(paint, ground)
        behind = torch.where(background.floor_TH[:, :, None] > 0, from_ground, from_wall)
        contrast = torch.minimum(contrast, torch.where(edge, torch.minimum(from_wall, from_ground), behind))
    return contrast


def _from_ground(day: Tensor, ground: Tensor) -> Tensor:
    """How far colours are from the floor's in any shadow."""
    shade = (day * ground).sum(1) / (ground**2).sum(1).clamp(min=1e-4)
    return _distance(day - shade.clamp(DEEPEST_SHADOW, BRIGHTEST_FLOOR)[:, None] * ground)


def _distance(delta_TCHW: Tensor) -> Tensor:
    """Length of a colour difference with its hue counted more than its brightness."""
    red, green, blue = delta_TCHW.unbind(1)
    total = red + green + blue
    squares = red * red + green * green + blue * blue
    return ((1 + CHROMA_WEIGHT) * squares - (CHROMA_WEIGHT / 3) * total * total).clamp(min=0).sqrt()


def _horizon_rows(floor_TH: Tensor) -> tuple[int, int]:
    """The first row that is not wall in every frame, less one, and the first that is floor in every frame, plus one."""
    top = int((floor_TH.amax(0) <= 0).sum()) - 1
    bottom = floor_TH.shape[1] - int((floor_TH.amin(0) >= 1).sum()) + 1
    return max(top, 0), min(bottom, floor_TH.shape[1])


def _near_horizon(floor_TH: Tensor) -> Tensor:
    """Rows within a pixel of the horizon, where wall and floor may have changed places."""
    mixed = (floor_TH > 0) & (floor_TH < 1)
    near = mixed.clone()
    near[:, 1:] |= mixed[:, :-1]
    near[:, :-1] |= mixed[:, 1:]
    return near
