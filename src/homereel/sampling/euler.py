"""Flow-matching Euler (Lipman et al. 2023, arXiv 2210.02747): straight steps along the flow."""

from __future__ import annotations

from torch import Tensor

from homereel.sampling.schedules import Schedule
from homereel.sampling.solver import SolverState


def euler_step(state: SolverState, velocity: Tensor, *, schedule: Schedule) -> SolverState:
    """From sigmas[step] to sigmas[step + 1]. Remembers nothing."""
    stride = schedule.sigmas[state.step + 1] - schedule.sigmas[state.step]
    return SolverState(sample=state.sample + stride.item() * velocity, step=state.step + 1)
