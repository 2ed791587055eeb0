"""Projections of sparse attention that was tuned with a model: they lie in a file beside its denoiser's weights.

Each goes into the attention that it belongs to, as `proj_l`, where the pass that makes attention sparse finds it. Until
then it computes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from homereel.core.errors import WeightsError
from homereel.weights.model_folder import TUNED_PROJECTION
from homereel.weights.safetensors_file import read_header


def put_projections(blocks: Sequence[Any], file: Path, *, head_size: int, device: str) -> None:
    """One for each block, in float32 as they were tuned. Raises WeightsError if the file holds others."""
    expected = {
        f"blocks.{number}.{TUNED_PROJECTION}.{leaf}": shape
        for number in range(len(blocks))
        for leaf, shape in (("weight", (head_size, head_size)), ("bias", (head_size,)))
    }
    found = {name: tensor.shape for name, tensor in read_header(file).items()}
    if found != expected:
        raise WeightsError(
            f"{file} does not hold a projection of {head_size} x {head_size} for each of {len(blocks)} blocks; "
            "import the model again"
        )
    tensors = _read(file, device=device)
    for number, block in enumerate(blocks):
        projection = nn.Linear(head_size, head_size, device="meta")
        for leaf in ("weight", "bias"):
            numbers = tensors[f"blocks.{number}.{TUNED_PROJECTION}.{leaf}"]
            setattr(projection, leaf, nn.Parameter(numbers, requires_grad=False))
        block.attn1.proj_l = projection.eval()


def _read(file: Path, *, device: str) -> dict[str, Tensor]:
    try:
        with safe_open(str(file), framework="pt", device=device) as stored:
            return {name: stored.get_tensor(name).to(torch.float32) for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{file} cannot be loaded: {error}") from None
