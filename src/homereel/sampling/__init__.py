"""Floor 1: schedules, steppers and guidance as pure tensor functions, each named after its paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from homereel.sampling.euler import euler_step
from homereel.sampling.guidance import classifier_free_guidance
from homereel.sampling.schedules import Schedule, euler_schedule, given_schedule, unipc_schedule
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
    "predicted_picture",
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
    """A schedule and the step that goes with it."""

    make_schedule: MakeSchedule
    step: Step


SAMPLERS: dict[str, Sampler] = {
    "unipc": Sampler(make_schedule=unipc_schedule, step=unipc_step),
    "euler": Sampler(make_schedule=euler_schedule, step=euler_step),
}
