"""Floor 1: schedules, steppers and guidance as pure tensor functions, each named after its paper."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from homereel.core.student_times import rcm_times
from homereel.sampling.euler import euler_step
from homereel.sampling.guidance import classifier_free_guidance
from homereel.sampling.rcm import picture_step, rcm_schedule, rcm_step, renoised
from homereel.sampling.schedules import Schedule, euler_schedule, given_schedule, noise_alone, unipc_schedule
from homereel.sampling.solver import SolverState, predicted_picture
from homereel.sampling.unipc import unipc_step

__all__ = [
    "SAMPLERS",
    "Sampler",
    "Schedule",
    "SolverState",
    "classifier_free_guidance",
    "euler_schedule",
    "euler_step",
    "given_schedule",
    "noise_alone",
    "predicted_picture",
    "rcm_step",
    "rcm_times",
    "renoised",
    "unipc_schedule",
    "unipc_step",
]


class MakeSchedule(Protocol):
    """How a sampler lays out its times."""

    def __call__(self, num_steps: int, *, shift: float) -> Schedule: ...


class Step(Protocol):
    """How a sampler goes from one time to the next."""

    def __call__(self, state: SolverState, velocity: Tensor, *, schedule: Schedule) -> SolverState: ...


@dataclass(frozen=True)
class Sampler:
    """A schedule and the step that goes with it.

    `dtype` holds the latents and the times on the way; the network is told the time rounded to `told`, None for as it
    is. Where `fresh_noise` is set, each step but the last leads to the picture as seen from there, which is then
    `renoised` for the next time.
    """

    make_schedule: MakeSchedule
    step: Step
    dtype: torch.dtype = torch.float32
    told: torch.dtype | None = None
    fresh_noise: bool = False


# Students of rCM run as they were trained: exact latents, of which the network sees short numbers, the time included.
_STUDENT = Sampler(make_schedule=rcm_schedule, step=euler_step, dtype=torch.float64, told=torch.bfloat16)

SAMPLERS: dict[str, Sampler] = {
    "unipc": Sampler(make_schedule=unipc_schedule, step=unipc_step),
    "euler": Sampler(make_schedule=euler_schedule, step=euler_step),
    "rcm": replace(_STUDENT, step=picture_step, fresh_noise=True),
    "rcm-ode": _STUDENT,
}
