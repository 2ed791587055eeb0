"""UniPC for rectified flow: order 2, B2(h), predicting the picture (Zhao et al. 2023, arXiv 2302.04867).

With signal 1 - sigma and noise sigma the paper's exponential integrator loses its exponentials: its
first-order part is the Euler step towards the predicted picture, and B(h) times the signal is
sigma' / sigma - 1. Half log-SNR (lambda) is left only where steps of different length are compared, and in
the corrector's weights.
"""

from __future__ import annotations

import math

from torch import Tensor

from homereel.sampling.schedules import Schedule
from homereel.sampling.solver import SolverState, predicted_picture

_ORDER = 2


def unipc_step(state: SolverState, velocity: Tensor, *, schedule: Schedule) -> SolverState:
    """Correct the sample with the new velocity, then predict the next one.

    `history` holds (picture two steps ago, picture one step ago, corrected sample one step ago), fewer at the
    start. The first and the last step are of order 1.
    """
    sigmas: list[float] = schedule.sigmas.double().tolist()
    step = state.step
    picture = predicted_picture(state.sample, velocity, sigma=sigmas[step])
    sample = state.sample if step == 0 else _correct(state.history, picture, sigmas=sigmas, step=step)
    earlier = state.history[-2] if step > 0 else None
    predicted = _predict(sample, picture, earlier, sigmas=sigmas, step=step)
    remembered = (picture, sample) if earlier is None else (earlier, picture, sample)
    return SolverState(sample=predicted, step=step + 1, history=remembered)


def _order(step: int, *, num_steps: int) -> int:
    """Few pictures are known at the start, and the end is taken at order 1 for stability."""
    return min(_ORDER, num_steps - step, step + 1)


def _predict(sample: Tensor, picture: Tensor, earlier: Tensor | None, *, sigmas: list[float], step: int) -> Tensor:
    """UniP: from sigmas[step] to sigmas[step + 1]."""
    here, there = sigmas[step], sigmas[step + 1]
    gain = 1 - there / here
    straight = sample * (there / here) + picture * gain
    if earlier is None or _order(step, num_steps=len(sigmas) - 1) == 1:
        return straight
    ratio = _step_ratio(sigmas[step - 1], here, there)
    return straight + (gain * 0.5 / ratio) * (earlier - picture)


def _correct(history: tuple[Tensor, ...], picture: Tensor, *, sigmas: list[float], step: int) -> Tensor:
    """UniC: take the last step again, now knowing the picture as seen from where it led."""
    before, sample = history[-2], history[-1]
    here, there = sigmas[step - 1], sigmas[step]
    gain = 1 - there / here
    straight = sample * (there / here) + before * gain
    if _order(step - 1, num_steps=len(sigmas) - 1) == 1:
        return straight + (gain * 0.5) * (picture - before)
    ratio = _step_ratio(sigmas[step - 2], here, there)
    weight_earlier, weight_new = _corrector_weights(_half_log_snr(there) - _half_log_snr(here), ratio=ratio)
    bend = (weight_earlier / ratio) * (history[-3] - before) + weight_new * (picture - before)
    return straight + gain * bend


def _corrector_weights(stride: float, *, ratio: float) -> tuple[float, float]:
    """Solve the paper's 2 x 2 system [[1, 1], [ratio, 1]] w = b(stride) for the order-2 corrector."""
    growth = math.expm1(-stride)
    first = growth / -stride - 1
    second = first / -stride - 0.5
    b_first, b_second = first / growth, 2 * second / growth
    weight_earlier = (b_first - b_second) / (1 - ratio)
    return weight_earlier, b_first - weight_earlier


def _step_ratio(before: float, here: float, there: float) -> float:
    """The last step's length against the coming one's, in half log-SNR and backwards: negative."""
    origin = _half_log_snr(here)
    return (_half_log_snr(before) - origin) / (_half_log_snr(there) - origin)


def _half_log_snr(sigma: float) -> float:
    return math.log1p(-sigma) - math.log(sigma)
