"""Which passes pay here: on this machine, for this model, at this length. Estimates by rule, not measurements.

`safe` takes what leaves a clip as it is but for rounding, `max` also what changes it. A step cache is never chosen
for anybody: it changes a clip more than all others, and by how much only the eye can say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from homereel.core.errors import UnsupportedPass
from homereel.core.machine import Machine
from homereel.core.protocols import Family, Pass
from homereel.passes.compile_blocks import CompileBlocks
from homereel.passes.fused_norms import FusedNorms
from homereel.passes.quantize import Quantize
from homereel.passes.sparse_attention import SparseAttention

Level = Literal["off", "safe", "max"]
# Below so many tokens what sparse attention saves is less than what choosing blocks costs.
LONG_ENOUGH = 8192
# Compiling takes a minute or so; a fifth of the time that a clip's arithmetic takes is what it gives back. So many
# operations are about five minutes of a GPU that does 500 TFLOP a second.
WORTH_COMPILING = 1.5e17
# Layers of so few tokens are bound by reading weights, which 8 bits still halve, but which then take no time anyway.
WORTH_QUANTISING = 2048


@dataclass(frozen=True)
class Choice:
    """The passes that were chosen, and a sentence on what was not, for the plan's warnings."""

    passes: tuple[Pass, ...]
    remarks: tuple[str, ...]


def turbo(level: Level, *, family: Family, machine: Machine, num_tokens: int, num_calls: int) -> Choice:
    """What pays for a clip of so many tokens and calls of the transformer; every pass chosen can be applied."""
    if level == "off":
        return Choice((), ())
    chosen: list[Pass] = []
    candidates = list(_candidates(level, machine=machine))
    for each in candidates:
        if slow_here(each, family=family, machine=machine, num_tokens=num_tokens, num_calls=num_calls) is None:
            try:
                each.check(family, machine)
            except UnsupportedPass:
                continue
            chosen.append(each)
    if chosen:
        return Choice(tuple(chosen), ())
    faster = "nothing exact" if level == "safe" else "nothing"
    more = _advice(level, family=family, machine=machine, num_tokens=num_tokens)
    return Choice((), (f"turbo {level} does nothing: {faster} is known to make this clip faster here{more}",))


def slow_here(each: Pass, *, family: Family, machine: Machine, num_tokens: int, num_calls: int) -> str | None:
    """Why this pass does not pay here, in a sentence; None if it should."""
    if isinstance(each, SparseAttention):
        short = f"{num_tokens} tokens are too few for sparse_attention to pay; from about {LONG_ENOUGH} it does"
        return short if num_tokens < LONG_ENOUGH else None
    if isinstance(each, Quantize) and machine.device != "cuda":
        return f"{each.name} is not faster without a GPU"
    if isinstance(each, Quantize) and num_tokens < WORTH_QUANTISING:
        return f"{num_tokens} tokens are too few for {each.name} to pay; from about {WORTH_QUANTISING} it does"
    if isinstance(each, CompileBlocks):
        operations = clip_operations(family, num_tokens=num_tokens, num_calls=num_calls)
        if machine.device != "cuda" or operations < WORTH_COMPILING:
            return "compile takes longer than this clip gains by it; it is for long clips of large models on a GPU"
    return None


def clip_operations(family: Family, *, num_tokens: int, num_calls: int) -> float:
    """Additions and multiplications of a clip: dense attention, and linear layers of twelve squares a block."""
    blocks = family.block_facts
    features = blocks.num_heads * blocks.head_size
    a_block = 4.0 * num_tokens**2 * features + 24.0 * num_tokens * features**2
    return a_block * blocks.num_blocks * num_calls


def _candidates(level: Level, *, machine: Machine) -> Iterator[Pass]:
    if level == "max":
        yield SparseAttention()
    yield FusedNorms()
    if level == "max":
        scheme = _fastest_scheme(machine)
        if scheme is not None:
            yield scheme
    yield CompileBlocks()


def _fastest_scheme(machine: Machine) -> Quantize | None:
    if machine.device != "cuda":
        return None
    import torch

    from homereel.kernels.int8_linear import preferred_scheme

    scheme = preferred_scheme(torch.cuda.get_device_capability())
    return None if scheme is None else replace(Quantize(), scheme=scheme)


def _advice(level: Level, *, family: Family, machine: Machine, num_tokens: int) -> str:
    """What would help, if anything."""
    if level == "safe" and num_tokens >= LONG_ENOUGH:
        try:
            SparseAttention().check(family, machine)
        except UnsupportedPass:
            pass
        else:
            return "; turbo max would use sparse attention, which changes the clip a little"
    return "; fewer steps or a smaller size would"
