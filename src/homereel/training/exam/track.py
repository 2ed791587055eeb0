"""Decides the object's shape and follows it through the clip: first from the mask's moments, then by its outline."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from homereel.training.exam.outline import Pose, Template, match_angle, refine, sample_patch, templates

NUM_JUDGED = 9
SMALL_SHARE = 0.35
"""The shape is judged on so many frames, where the object has at least this share of its greatest area."""
MIN_VOTES = 0.65
"""So many of the judged frames must look most like the shape that all of them together do."""
MAX_ERROR, MAX_RIVAL, FITTING_SHARE = 0.16, 0.85, 2 / 3
"""The best shape's misfit must be below MAX_ERROR in FITTING_SHARE of the frames, and below MAX_RIVAL of the second
best shape's."""
MAX_CLUTTER = 0.4
"""What else differs from the background is at most so much of the object's area."""
SMALLEST_AREA = 0.012


@dataclass(frozen=True)
class Track:
    """The object's shape (None: none of the world's) and its pose on the screen in every frame."""

    shape: str | None
    template: Template
    pose: Pose


@dataclass(frozen=True)
class Moments:
    x: Tensor
    y: Tensor
    spread: Tensor
    area: Tensor


def follow(mask_THW: Tensor, u_W: Tensor, v_H: Tensor, *, pixel: float) -> Track | None:
    """Find the object's shape and track; None where too few frames show any object."""
    aspect = len(u_W) / len(v_H)
    moments = measure(mask_THW, u_W, v_H, pixel=pixel)
    seen = moments.area > SMALLEST_AREA
    if int(seen.sum()) < max(4, len(seen) // 3):
        return None
    judged = _best_frames(moments, seen, aspect=aspect)
    errors_KN = torch.stack([_misfit(mask_THW, moments, judged, template, aspect=aspect) for template in templates()])
    error_K = errors_KN.quantile(FITTING_SHARE, dim=1)
    first, second = error_K.argsort()[:2].tolist()
    votes = float((errors_KN.argmin(0) == first).float().mean())
    template = templates()[first]
    pose = _follow_pose(mask_THW, moments, template, aspect=aspect)
    sure = votes >= MIN_VOTES and float(error_K[first]) < min(MAX_ERROR, MAX_RIVAL * float(error_K[second]))
    sure = sure and _clutter(mask_THW, pose, u_W, v_H) < MAX_CLUTTER
    return Track(template.shape if sure else None, template, pose)


def measure(mask_THW: Tensor, u_W: Tensor, v_H: Tensor, *, pixel: float) -> Moments:
    """Centre, spread and area of the mask around its heaviest place."""
    weight = (mask_THW - 0.25).clamp(min=0) / 0.75
    near = weight * _main_part(weight, u_W, v_H)
    for reach in (2.3, 1.9):
        x, y, spread, total = _moments(near, u_W, v_H)
        distance = ((u_W - x[:, None]) ** 2)[:, None, :] + ((v_H - y[:, None]) ** 2)[:, :, None]
        near = near * (distance < reach**2 * 2 * spread.view(-1, 1, 1))
    x, y, spread, total = _moments(near, u_W, v_H)
    return Moments(x, y, spread, total * pixel**2)


def _moments(weight_THW: Tensor, u_W: Tensor, v_H: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    by_column, by_row = weight_THW.sum(1), weight_THW.sum(2)
    total = by_column.sum(1)
    share_W, share_H = by_column / total.clamp(min=1e-3)[:, None], by_row / total.clamp(min=1e-3)[:, None]
    x, y = share_W @ u_W, share_H @ v_H
    spread = (share_W @ u_W**2 - x * x) + (share_H @ v_H**2 - y * y)
    return x, y, spread.clamp(min=1e-3), total


def _main_part(weight_THW: Tensor, u_W: Tensor, v_H: Tensor) -> Tensor:
    """A disc around the heaviest place of the blurred mask: the object, whatever else may differ elsewhere."""
    coarse = F.avg_pool2d(weight_THW[:, None], 4, ceil_mode=True)
    blurred = F.avg_pool2d(coarse, 3, stride=1, padding=1)[:, 0]
    index = blurred.flatten(1).argmax(1)
    row, column = (index // blurred.shape[-1]) * 4 + 2, (index % blurred.shape[-1]) * 4 + 2
    v, u = v_H[row.clamp(max=len(v_H) - 1)], u_W[column.clamp(max=len(u_W) - 1)]
    distance = ((u_W - u[:, None]) ** 2)[:, None, :] + ((v_H - v[:, None]) ** 2)[:, :, None]
    return (distance < 0.9**2).float()


def _best_frames(moments: Moments, seen: Tensor, *, aspect: float) -> Tensor:
    """Frames that show the object whole and not much smaller than ever, spread over the clip."""
    reach = (2 * moments.spread).sqrt() * 1.15
    margin = torch.minimum(aspect - moments.x.abs(), 1 - moments.y.abs()) - reach
    whole = seen & (margin > 0)
    chosen = whole if int(whole.sum()) >= 4 else seen & (margin >= margin[seen].quantile(0.6))
    candidates = chosen.nonzero()[:, 0]
    area = moments.area[candidates]
    large = candidates[area >= SMALL_SHARE * area.max()]
    return large[torch.linspace(0, len(large) - 1, min(NUM_JUDGED, len(large))).round().long()]


def _misfit(mask_THW: Tensor, moments: Moments, judged: Tensor, template: Template, *, aspect: float) -> Tensor:
    """How badly a shape fits the judged frames at its best pose."""
    picked = Moments(*(part[judged] for part in (moments.x, moments.y, moments.spread, moments.area)))
    return _aligned(mask_THW[judged], _pose_from(picked, template), template, aspect=aspect, num_steps=7).error


def _pose_from(moments: Moments, template: Template) -> Pose:
    """The pose of an unturned template that has these moments."""
    radius = (moments.spread / template.spread).sqrt().clamp(0.06, 1.2)
    one = torch.ones_like(radius)
    return Pose(moments.x, moments.y, radius, torch.zeros_like(radius), one, one)


def _aligned(mask_THW: Tensor, pose: Pose, template: Template, *, aspect: float, num_steps: int) -> Pose:
    samples, _ = sample_patch(mask_THW[:, None], pose, aspect=aspect)
    pose = replace(pose, angle=match_angle(samples[:, 0], template))
    return refine(mask_THW, pose, template, aspect=aspect, num_steps=num_steps)


def _follow_pose(mask_THW: Tensor, moments: Moments, template: Template, *, aspect: float) -> Pose:
    """The pose in every frame. A frame that fits badly, or shows a part only, is tried again with the radius and
    angle of the nearest frame that fits well."""
    pose = _aligned(mask_THW, _pose_from(moments, template), template, aspect=aspect, num_steps=7)
    good = (pose.error < MAX_ERROR) & (pose.visible > 0.9)
    poor = (~good).nonzero()[:, 0]
    if not int(good.sum()) or not len(poor):
        return pose
    anchors = good.nonzero()[:, 0]
    nearest = anchors[(poor[:, None] - anchors[None]).abs().argmin(1)]
    start = Pose(
        moments.x[poor],
        moments.y[poor],
        *(part[nearest] for part in (pose.radius, pose.angle, pose.error, pose.visible)),
    )
    again = refine(mask_THW[poor], start, template, aspect=aspect, num_steps=7)
    better = again.error < pose.error[poor]
    merged = []
    for name in ("x", "y", "radius", "angle", "error", "visible"):
        old = getattr(pose, name).clone()
        old[poor] = torch.where(better, getattr(again, name), old[poor])
        merged.append(old)
    return Pose(*merged)


def _clutter(mask_THW: Tensor, pose: Pose, u_W: Tensor, v_H: Tensor) -> float:
    """The area of all that is not the object, in units of the object's area, in the middle frame of a ranking."""
    distance = ((u_W - pose.x[:, None]) ** 2)[:, None, :] + ((v_H - pose.y[:, None]) ** 2)[:, :, None]
    near = distance < (1.45 * pose.radius.view(-1, 1, 1)) ** 2
    of_object = (mask_THW * near).sum((1, 2))
    return float(((mask_THW.sum((1, 2)) - of_object) / of_object.clamp(min=5)).median())
