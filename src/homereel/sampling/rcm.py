"""Few steps with students of rCM (Zheng et al. 2025, arXiv 2510.08431): the times to visit, and the way between them.

rCM counts time as an angle t of TrigFlow, where x = cos t * picture + sin t * noise; the networks that it distils
know rectified flow, where x = (1 - sigma) * picture + sigma * noise. But for a factor both are the same x, where
sigma = sin t / (cos t + sin t).
"""

from __future__ import annotations

import torch
from torch import Tensor

from homereel.core.student_times import rcm_times
from homereel.sampling.schedules import Schedule, given_schedule
from homereel.sampling.solver import SolverState, predicted_picture


def rcm_step(
    sample: Tensor,
    velocity: Tensor,
    *,
    sigma: float | Tensor,
    next_sigma: float | Tensor,
    noise: Tensor | None = None,
) -> Tensor:
    """From one time to the next: with fresh `noise` the stochastic step, without it straight along the flow.

    For any shapes that broadcast, and differentiable, so that training can take the steps of the sampler.
    """
    if noise is None:
        return sample - (sigma - next_sigma) * velocity
    return renoised(predicted_picture(sample, velocity, sigma=sigma), noise, sigma=next_sigma)


def renoised(picture: Tensor, noise: Tensor, *, sigma: float | Tensor) -> Tensor:
    """A picture with this share of noise."""
    return (1 - sigma) * picture + sigma * noise


def picture_step(state: SolverState, velocity: Tensor, *, schedule: Schedule) -> SolverState:
    """The stochastic step but for its noise: to the picture as seen from here, which is then `renoised`."""
    picture = predicted_picture(state.sample, velocity, sigma=schedule.sigmas[state.step].item())
    return SolverState(sample=picture, step=state.step + 1)


def rcm_schedule(num_steps: int, *, shift: float) -> Schedule:  # noqa: ARG001  # nothing bends these times
    """The times of a student that starts from words, in float64 as its makers have them."""
    return given_schedule(rcm_times(num_steps), dtype=torch.float64)
