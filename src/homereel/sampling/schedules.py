"""Noise schedules of rectified flow: which times a sampler visits, and how much noise is left at each.

Along the path x = (1 - sigma) * picture + sigma * noise, sigma falls from 1 to 0. `shift` bends the path so
that more steps are spent where there is much noise (Esser et al. 2024, "Scaling Rectified Flow Transformers",
eq. 23). The two schedules are not interchangeable: for 4 steps and shift 3 one visits 999, 900, 750, 500 and
the other 1000, 858, 602, 9.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NUM_TRAIN_TIMESTEPS = 1000


@dataclass(frozen=True)
class Schedule:
    """`timesteps` (N,) is what the network is told, but for rounding; `sigmas` (N + 1,) on the CPU, the last one 0."""

    timesteps: Tensor
    sigmas: Tensor

    @property
    def num_steps(self) -> int:
        return len(self.timesteps)


def unipc_schedule(num_steps: int, *, shift: float) -> Schedule:
    """Times for UniPC as Wan uses it: even in unshifted time, whole numbers, from just below pure noise."""
    sigmas = shift_sigmas(np.linspace(1, 1 / NUM_TRAIN_TIMESTEPS, num_steps + 1)[:-1], shift=shift)
    sigmas[0] = min(sigmas[0], 1 - 1e-6)  # at exactly 1 the signal's logarithm is infinite
    timesteps = torch.from_numpy(sigmas * NUM_TRAIN_TIMESTEPS).to(torch.int64)
    return Schedule(timesteps=timesteps, sigmas=_down_to_zero(sigmas))


def euler_schedule(num_steps: int, *, shift: float) -> Schedule:
    """Times for flow-matching Euler: even between the shifted ends, then shifted once more, as peers do."""
    smallest = float(shift_sigmas(np.array([1 / NUM_TRAIN_TIMESTEPS], dtype=np.float32), shift=shift)[0])
    sigmas = shift_sigmas(np.linspace(1, smallest, num_steps), shift=shift)
    ends_in_zero = _down_to_zero(sigmas)
    return Schedule(timesteps=ends_in_zero[:-1] * NUM_TRAIN_TIMESTEPS, sigmas=ends_in_zero)


def given_schedule(sigmas: Sequence[float], *, dtype: torch.dtype = torch.float32) -> Schedule:
    """Times that a model's makers chose one by one, such as those of a distilled model; the last is 0.

    Raises ValueError unless they fall from at most 1 to 0.
    """
    falling = all(later < earlier for earlier, later in itertools.pairwise(sigmas))
    if len(sigmas) < 2 or sigmas[0] > 1 or sigmas[-1] != 0 or not falling:
        raise ValueError(f"sigmas must fall from at most 1 to 0, not {tuple(sigmas)}")
    settled = torch.tensor(sigmas, dtype=dtype)
    return Schedule(timesteps=settled[:-1] * NUM_TRAIN_TIMESTEPS, sigmas=settled)


def noise_alone(noise: Tensor, *, sigma: float) -> Tensor:
    """Latents of which nothing is known yet, where `sigma` is the share of noise in them.

    Schedules that mean to start at 1 (UniPC a millionth below, where it would be infinite) take the noise as it is.
    """
    return noise if sigma > 1 - 1e-5 else sigma * noise


def shift_sigmas(sigmas: NDArray[np.floating], *, shift: float) -> NDArray[np.floating]:
    """Bend a path towards noise: 1 leaves it as it is, larger values spend more steps there."""
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def _down_to_zero(sigmas: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(np.append(sigmas, 0).astype(np.float32))
