"""What a solver carries from step to step: all of it is here, so it can be saved and taken up again."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class SolverState:
    """Noisy latents before step `step`, and what a multistep solver remembers, oldest first."""

    sample: Tensor
    step: int = 0
    history: tuple[Tensor, ...] = ()


def predicted_picture(sample: Tensor, velocity: Tensor, *, sigma: float | Tensor) -> Tensor:
    """Where the flow leads if it went straight on: the clean latents as seen from here."""
    return sample - sigma * velocity
