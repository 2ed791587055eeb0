"""What passes change of a clip's cost, by the words that choose them: shares of the arithmetic that is left.

A share is what was measured or what the arithmetic says; the ledger corrects it on the machine at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

# Choosing blocks and the linear branch cost about a twentieth of dense attention.
_SPARSE_RATIO, _SPARSE_OVERHEAD = 0.1, 0.05
# What is left of the time that layers without arithmetic take.
_FUSED, _COMPILED = 0.45, 0.6
# The share of steps that a cache computes at its usual threshold, and the least share that it may compute.
_CACHED = 0.6
# Cold, for the blocks of one model on a GPU; they are all alike.
COMPILE_SECONDS = 45.0
EIGHT_BIT = ("int8", "int8_block", "fp8")


@dataclass(frozen=True)
class Effect:
    """Factors on dense attention, layers without arithmetic and calls; `eight_bit` linears; seconds once a process."""

    attention: float = 1.0
    elementwise: float = 1.0
    calls: float = 1.0
    eight_bit: bool = False
    once_seconds: float = 0.0


def effect_of(specs: Sequence[str]) -> Effect:
    """Of all these passes together."""
    found = Effect()
    for spec in specs:
        name, *words = spec.split(":")
        if name == "sparse_attention":
            ratio = _number(words, name="ratio", otherwise=_SPARSE_RATIO)
            found = replace(found, attention=min(1.0, ratio + _SPARSE_OVERHEAD))
        elif name == "fused_norms":
            found = replace(found, elementwise=found.elementwise * _FUSED)
        elif name == "compile":
            found = replace(found, elementwise=found.elementwise * _COMPILED, once_seconds=COMPILE_SECONDS)
        elif name == "step_cache":
            found = replace(found, calls=_CACHED)
        elif name in EIGHT_BIT:
            found = replace(found, eight_bit=True)
    return found


def _number(words: Sequence[str], *, name: str, otherwise: float) -> float:
    """A setting that stands first, or by its name."""
    for index, word in enumerate(words):
        key, equals, value = word.partition("=")
        if (equals and key == name) or (not equals and index == 0):
            try:
                return float(value if equals else word)
            except ValueError:
                return otherwise
    return otherwise
