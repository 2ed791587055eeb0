"""Consistency in continuous time (Lu and Song 2024, arXiv 2410.11081), as rCM has it (arXiv 2510.08431).

In TrigFlow's coordinates a clip at angle t is x = cos t * clip + sin t * noise; the network's F tells dx/dt, and the
clip seen from there is cos t * x - sin t * F. A rectified-flow network gives F without further training.
The derivative of F along the teacher's way comes from forward-mode differentiation; attention's fused kernels have
none, so it runs on plain matrix products. Where even that fails, a difference of two more passes does.
Shape letters: B batch, C channels, T latent frames, H height, W width.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from homereel.training.distillation.flow import Conditions, Noisy, Teacher, spread, velocity

Derivative = Literal["forward mode", "difference"]
NORM_FLOOR = 0.1
DIFFERENCE = 1e-3  # of an angle


def continuous_loss(
    student: Any,
    given: Noisy,
    *,
    teacher: Teacher,
    warm_up: float = 1.0,
    derivative: Derivative = "forward mode",
) -> Tensor:
    """Sum over a clip's elements of (F - F⁻ - g)², g / (‖g‖ + 0.1) being the tangent; mean over the batch.

    `warm_up` rises from 0, where the teacher's flow is all that is learnt, to 1.
    """
    angle_B, conditions = torch.atan2(given.time_B, 1 - given.time_B), given.conditions
    angle = spread(angle_B)
    cosine, sine = angle.cos(), angle.sin()
    x = cosine * given.clip + sine * given.noise
    with torch.no_grad():
        wanted = _turned(x, angle_B, teacher.velocity(x / (cosine + sine), _time(angle_B), conditions))
        now, slope = _derivative(student, x, wanted, angle_B, conditions, kind=derivative)
        tangent = -cosine * (1 - (warm_up * sine).square()).sqrt() * (now - wanted)
        tangent = tangent - warm_up * cosine * sine * (x + slope)
        norm = tangent.flatten(1).norm(dim=1).view(-1, 1, 1, 1, 1)
        tangent = tangent / (norm + NORM_FLOOR)
    error: Tensor = trig_flow(student, x, angle_B, conditions) - now - tangent
    return error.square().flatten(1).sum(1).mean()


def trig_flow(network: Any, x: Tensor, angle_B: Tensor, conditions: Conditions) -> Tensor:
    """F of a rectified-flow network, (B, C, T, H, W)."""
    angle = spread(angle_B)
    flow = velocity(network, x / (angle.cos() + angle.sin()), _time(angle_B), conditions)
    return _turned(x, angle_B, flow)


def _time(angle_B: Tensor) -> Tensor:
    """The share of noise at an angle."""
    return angle_B.sin() / (angle_B.cos() + angle_B.sin())


def _turned(x: Tensor, angle_B: Tensor, flow: Tensor) -> Tensor:
    """F = ((cos t - sin t) * x + flow) / (cos t + sin t): the same clip seen, in the other coordinates."""
    cosine, sine = spread(angle_B).cos(), spread(angle_B).sin()
    return ((cosine - sine) * x + flow) / (cosine + sine)


def _derivative(
    network: Any, x: Tensor, way: Tensor, angle_B: Tensor, conditions: Conditions, *, kind: Derivative
) -> tuple[Tensor, Tensor]:
    """F, and its derivative over the angle where x follows `way`."""

    def along(x: Tensor, angle_B: Tensor) -> Tensor:
        return trig_flow(network, x, angle_B, conditions)

    if kind == "forward mode":
        with sdpa_kernel(SDPBackend.MATH):
            found: Any = torch.func.jvp(along, (x, angle_B), (way, torch.ones_like(angle_B)))
        return found[0], found[1]
    step = DIFFERENCE
    before, after = (along(x + h * way, angle_B + h) for h in (-step, step))
    return along(x, angle_B), (after - before) / (2 * step)
