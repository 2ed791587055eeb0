"""LTX-2's times of denoising: bent by the number of tokens, or the few that a model was distilled for. No torch.

They are reckoned in float32 and in the order of diffusers' scheduler, so that both give the same numbers.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from homereel.models.ltx.config import Timetable

# The times that Lightricks distilled its models for: one stage, and the second stage after the upscaler.
DISTILLED = (1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875, 0.0)
DISTILLED_REFINING = (0.909375, 0.725, 0.421875, 0.0)

Floats = NDArray[np.float32]


def full_sigmas(num_steps: int, *, timetable: Timetable, num_tokens: int, shift: float) -> tuple[float, ...]:
    """Even times, bent towards noise the more the more tokens there are; `shift` bends them further, 1 does not."""
    if num_steps == 1:
        return 1.0, 0.0
    return _laid_out(np.linspace(1.0, 1 / num_steps, num_steps), timetable, num_tokens=num_tokens, shift=shift)


def distilled_sigmas(num_steps: int, *, timetable: Timetable, shift: float) -> tuple[float, ...]:
    """The distilled model's own times for 8 steps; for another number of steps, times along the same curve."""
    places = np.linspace(0, len(DISTILLED) - 1, num_steps + 1)[:-1]
    curve = np.interp(places, np.arange(len(DISTILLED)), DISTILLED)
    return _laid_out(curve, timetable, num_tokens=0, shift=shift)


def refining_sigmas(*, timetable: Timetable, shift: float) -> tuple[float, ...]:
    """The three steps of the second stage."""
    return _laid_out(np.array(DISTILLED_REFINING[:-1]), timetable, num_tokens=0, shift=shift)


def _laid_out(times: NDArray[np.float64], timetable: Timetable, *, num_tokens: int, shift: float) -> tuple[float, ...]:
    sigmas: Floats = times.astype(np.float32)
    if timetable.dynamic:
        bend = math.exp(_bend(timetable, num_tokens) + math.log(shift))
        sigmas = (bend / (bend + (1 / sigmas - 1))).astype(np.float32)
    else:
        bend = timetable.shift * shift
        sigmas = bend * sigmas / (1 + (bend - 1) * sigmas)
    if timetable.terminal is not None:
        sigmas = _stretched(sigmas, timetable.terminal)
    return (*(float(sigma) for sigma in sigmas), 0.0)


def _bend(timetable: Timetable, num_tokens: int) -> float:
    """The logarithm of the shift, a straight line over the number of tokens."""
    slope = (timetable.max_shift - timetable.base_shift) / (timetable.max_tokens - timetable.base_tokens)
    return num_tokens * slope + (timetable.base_shift - slope * timetable.base_tokens)


def _stretched(sigmas: Floats, terminal: float) -> Floats:
    """The same times, drawn out so that the last of them is `terminal`."""
    picture = 1 - sigmas
    if picture[-1] <= 0:
        return sigmas
    stretched: Floats = 1 - picture / (picture[-1] / (1 - terminal))
    return stretched
