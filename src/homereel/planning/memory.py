"""How much memory a clip needs, and whether all of a model's parts may stay loaded between clips."""

from __future__ import annotations

from dataclasses import dataclass

from homereel.core.machine import Machine
from homereel.core.model import Shapes
from homereel.core.protocols import ModelFacts

# A process with torch and diffusers imported, before any weights, measured on Linux.
PROCESS_BYTES = 440 * 1024**2
# Parts stay loaded while they take at most this share of the memory that they live in.
WARM_SHARE = 0.5


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes in the memory that the device computes in."""

    weight_bytes: int  # of all parts together
    peak_bytes: int


def plan_memory(model: ModelFacts, *, machine: Machine, shapes: Shapes) -> MemoryPlan:
    """Staged from shapes alone: text encoder, then denoiser, then VAE, each with its working memory."""
    weights = _weights(model, dtype=machine.dtype)
    needs = {part: shapes.decode_bytes if part in model.decoders else shapes.denoise_bytes for part in weights}
    if keeps_all(model, machine=machine):
        working = sum(weights.values()) + max(needs.values())
    else:
        working = max(weights[part] + needs[part] for part in weights)
    process = 0 if machine.device == "cuda" else PROCESS_BYTES
    return MemoryPlan(weight_bytes=sum(weights.values()), peak_bytes=process + working)


def keeps_all(model: ModelFacts, *, machine: Machine) -> bool:
    """Whether all parts stay loaded side by side; otherwise each is freed before the next is loaded."""
    room = machine.vram_bytes or machine.ram_bytes
    return sum(_weights(model, dtype=machine.dtype).values()) <= WARM_SHARE * room


def _weights(model: ModelFacts, *, dtype: str) -> dict[str, int]:
    return {part: model.weight_bytes(part, dtype=dtype) for part in model.components}
