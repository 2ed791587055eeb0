"""How much memory a clip needs, and whether all of a model's parts may stay loaded between clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from homereel.core.machine import Machine
from homereel.core.model import Shapes
from homereel.core.protocols import ModelFacts
from homereel.planning.host_bytes import PROCESS_BYTES

# Parts stay loaded while they take at most this share of the memory that they live in.
WARM_SHARE = 0.5


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes in the memory that the device computes in."""

    weight_bytes: int  # of all parts together
    peak_bytes: int


def plan_memory(
    model: ModelFacts, *, machine: Machine, shapes: Shapes, freed: Mapping[str, int] | None = None
) -> MemoryPlan:
    """Staged from shapes alone: text encoder, then denoiser, then VAE, each with its working memory.

    `freed` is what a part takes less once it is loaded, because passes put its layers in 8 bits; while it is loaded it
    is there as a whole.
    """
    loaded = _weights(model, dtype=machine.dtype)
    held = {part: size - (freed or {}).get(part, 0) for part, size in loaded.items()}
    needs = {part: shapes.decode_bytes if part in model.decoders else shapes.denoise_bytes for part in loaded}
    moments = {part: max(loaded[part], held[part] + needs[part]) for part in loaded}
    if keeps_all(model, machine=machine):
        working = max(moments[part] + sum(held.values()) - held[part] for part in loaded)
    else:
        working = max(moments.values())
    process = 0 if machine.device == "cuda" else PROCESS_BYTES
    return MemoryPlan(weight_bytes=sum(held.values()), peak_bytes=process + working)


def keeps_all(model: ModelFacts, *, machine: Machine) -> bool:
    """Whether all parts stay loaded side by side; otherwise each is freed before the next is loaded."""
    room = machine.vram_bytes or machine.ram_bytes
    return sum(_weights(model, dtype=machine.dtype).values()) <= WARM_SHARE * room


def _weights(model: ModelFacts, *, dtype: str) -> dict[str, int]:
    return {part: model.weight_bytes(part, dtype=dtype) for part in model.components}
