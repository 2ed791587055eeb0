"""Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598)."""

from __future__ import annotations

from torch import Tensor


def classifier_free_guidance(conditional: Tensor, unconditional: Tensor, *, scale: float) -> Tensor:
    """Go `scale` times as far from the unconditional as the prompt does; 1 is the prompt's own prediction."""
    return unconditional + scale * (conditional - unconditional)
