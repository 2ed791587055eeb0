"""From a prompt to what steers LTX-2: Gemma's every layer, then connectors for the picture and for the sound.

Shape letters: B batch, L text tokens, D features, N layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class LtxWords:
    """One prompt as the transformer takes it: for the picture and for the sound, both (1, L, D), and a mask (1, L)."""

    video: Tensor
    audio: Tensor
    mask: Tensor


def read_prompt(text_encoder: Any, *, ids: Sequence[int], mask: Sequence[int]) -> tuple[Tensor, Tensor]:
    """What all layers of the text encoder make of a prompt, (1, L, D * N), and its mask (1, L)."""
    device = text_encoder.device
    ids_BL, mask_BL = torch.tensor([ids], device=device), torch.tensor([mask], device=device)
    layers = text_encoder(ids_BL, attention_mask=mask_BL, output_hidden_states=True, use_cache=False).hidden_states
    return torch.stack(layers, dim=-1).flatten(2, 3), mask_BL


def connect(connectors: Any, features_BLD: Tensor, mask_BL: Tensor) -> LtxWords:
    """The words as the picture and the sound are told them."""
    features = features_BLD.to(connectors.device, connectors.dtype)
    return LtxWords(*connectors(features, mask_BL.to(connectors.device), padding_side="left"))
