"""Fits the outlines of the world's shapes to an object's mask: which shape it is, and where it is in every frame.

A shape's outline is drawn once on a small patch around its centre of area. Every frame's mask is sampled on that
patch, moved, scaled and turned, and the patch's pose is improved by Gauss-Newton steps (inverse compositional
alignment: Baker and Matthews, "Lucas-Kanade 20 years on", 2004), so that one small matrix a shape serves all frames.

Shape letters: T frames, H height, W width, S samples of the patch, P parameters (x, y, log radius, angle), A angles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from homereel.training.world.draw import signed_distance
from homereel.training.world.scene import SHAPES

PATCH = 24
REACH = 1.5
"""The patch is PATCH × PATCH samples and reaches REACH radii to every side."""
EDGE = 0.16
"""Width of a template's soft edge in radii."""
SYMMETRY = {
    "ball": 0.0,
    "ring": 0.0,
    "box": math.pi / 2,
    "triangle": 2 * math.pi / 3,
    "star": 2 * math.pi / 5,
}
"""The angle after which a shape looks the same; 0 where every angle does."""
STEP = math.radians(6)


@dataclass(frozen=True)
class Template:
    """One shape's coverage on the patch, and how it changes with every parameter."""

    shape: str
    patch_S: Tensor
    distance_S: Tensor
    """Signed distance of every sample to the outline, in radii."""
    jacobian_SP: Tensor
    turned_AS: Tensor
    angles_A: Tensor
    centre_y: float
    """Where its centre of area lies in the world's coordinates of the shape."""
    spread: float
    """Mean squared distance of its area from its centre, in radii squared."""


@dataclass(frozen=True)
class Pose:
    """Where the object is on the screen, tensors of length T; `error` is the misfit in units of the object's area."""

    x: Tensor
    y: Tensor
    radius: Tensor
    angle: Tensor
    error: Tensor
    visible: Tensor


@lru_cache(maxsize=1)
def templates() -> tuple[Template, ...]:
    return tuple(_template(shape) for shape in SHAPES)


@lru_cache(maxsize=1)
def patch_grid() -> tuple[Tensor, Tensor]:
    line = (torch.arange(PATCH) + 0.5) / PATCH * 2 * REACH - REACH
    y, x = torch.meshgrid(line, line, indexing="ij")
    return x.reshape(-1), y.reshape(-1)


def _template(shape: str) -> Template:
    x, y = patch_grid()
    rough = _coverage(shape, x, y)
    centre_y = float((rough * y).sum() / rough.sum())
    patch = _coverage(shape, x, y + centre_y)
    slip = 0.04
    by_x = (_coverage(shape, x + slip, y + centre_y) - _coverage(shape, x - slip, y + centre_y)) / (2 * slip)
    by_y = (_coverage(shape, x, y + centre_y + slip) - _coverage(shape, x, y + centre_y - slip)) / (2 * slip)
    turn = x * by_y - y * by_x if SYMMETRY[shape] else torch.zeros_like(x)
    angles = torch.arange(round(SYMMETRY[shape] / STEP) or 1) * STEP
    turned = []
    for angle in angles.tolist():
        cos, sin = math.cos(angle), math.sin(angle)
        turned.append(_coverage(shape, cos * x + sin * y, cos * y - sin * x + centre_y))
    return Template(
        shape=shape,
        patch_S=patch,
        distance_S=signed_distance(shape, x, y + centre_y),
        jacobian_SP=torch.stack([by_x, by_y, x * by_x + y * by_y, turn], 1),
        turned_AS=torch.stack(turned),
        angles_A=angles,
        centre_y=centre_y,
        spread=float((patch * (x * x + y * y)).sum() / patch.sum()),
    )


def _coverage(shape: str, x: Tensor, y: Tensor) -> Tensor:
    return (0.5 - signed_distance(shape, x, y) / EDGE).clamp(0, 1)


def sample_patch(
    images_TCHW: Tensor, pose: Pose, *, aspect: float, only_S: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Every frame's picture on its patch (T, C, S), and which samples lie inside the frame (T, S).

    `only_S` picks some of the patch's samples.
    """
    x, y = patch_grid()
    base_S3 = torch.stack([x, y, torch.ones_like(x)], 1)
    cos, sin = pose.radius * torch.cos(pose.angle), pose.radius * torch.sin(pose.angle)
    place_T32 = torch.stack([cos / aspect, sin, -sin / aspect, cos, pose.x / aspect, pose.y], 1).view(-1, 3, 2)
    grid_TS2 = (base_S3 if only_S is None else base_S3[only_S]) @ place_T32
    values = F.grid_sample(images_TCHW, grid_TS2[:, :, None], align_corners=False, padding_mode="border")
    return values[..., 0], (grid_TS2.abs().amax(-1) < 1).float()


def match_angle(samples_TS: Tensor, template: Template) -> Tensor:
    """The turn of the template that every frame's unturned samples show best."""
    turned_AS = template.turned_AS
    misfit_TA = (turned_AS**2).sum(1) - 2 * samples_TS @ turned_AS.T
    return template.angles_A[misfit_TA.argmin(1)]


def refine(mask_THW: Tensor, pose: Pose, template: Template, *, aspect: float, num_steps: int) -> Pose:
    """Improve a pose by alignment steps and measure its misfit."""
    jacobian = template.jacobian_SP
    outer_SPP = jacobian[:, :, None] * jacobian[:, None, :]
    damping = torch.diag(torch.tensor([2.0, 2.0, 2.0, 2.0]))
    for step in range(num_steps + 1):
        samples, inside = sample_patch(mask_THW[:, None], pose, aspect=aspect)
        wrong_TS = (samples[:, 0] - template.patch_S) * inside
        if step == num_steps:
            break
        hessian = (inside @ outer_SPP.flatten(1)).view(-1, 4, 4) + damping
        delta = torch.linalg.solve(hessian, (wrong_TS @ jacobian)[..., None])[..., 0].clamp(-0.3, 0.3)
        radius = (pose.radius * torch.exp(-delta[:, 2])).clamp(0.04, 1.5)
        angle = pose.angle - delta[:, 3]
        cos, sin = torch.cos(angle), torch.sin(angle)
        move_x, move_y = cos * delta[:, 0] - sin * delta[:, 1], sin * delta[:, 0] + cos * delta[:, 1]
        pose = Pose(pose.x - radius * move_x, pose.y - radius * move_y, radius, angle, pose.error, pose.visible)
    error = (wrong_TS**2).sum(1) / (template.patch_S * inside).sum(1).clamp(min=1.0)
    visible = (template.patch_S * inside).sum(1) / template.patch_S.sum()
    return Pose(pose.x, pose.y, pose.radius, pose.angle, error, visible)
