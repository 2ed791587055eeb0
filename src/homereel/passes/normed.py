"""What fused blocks are made of: norms with modulation, as numbers or at once in 8 bits, and norms with positions.

Shape letters: B batch, L tokens, C channels, F features of all heads, H heads, D features of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeAlias

from torch import Tensor, nn

from homereel.core.errors import UnsupportedPass
from homereel.core.protocols import Family
from homereel.kernels.fused_norm import Rotary, norm_modulate, norm_modulate_quantize, rms_norm_rope
from homereel.kernels.int8_linear import QuantizedActivation
from homereel.passes.blocks import Changes
from homereel.passes.quantize import scheme_taken

Rows: TypeAlias = Tensor | QuantizedActivation
"""Tokens as numbers, or in 8 bits; both have a shape, and linear layers in 8 bits take either."""


def normed_for(
    layers: Sequence[Any],
    x_BLC: Tensor,
    *,
    scale: Tensor | None,
    shift: Tensor | None,
    eps: float,
    centre: bool = True,
) -> Rows:
    """`norm_modulate`, quantised in the same look at a token if all of these layers take it so, and once for all."""
    scheme = scheme_taken(layers)
    if scheme is None:
        return norm_modulate(x_BLC, scale=scale, shift=shift, eps=eps, centre=centre)
    return norm_modulate_quantize(x_BLC, scale=scale, shift=shift, eps=eps, centre=centre, scheme=scheme)


def turned(attn: Any, q_BLF: Tensor, k_BLF: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor]:
    """Norm and rotary position of queries and keys: (B, L, F) each to (B, L, H, D) each."""

    def one(rows_BLF: Tensor, norm: Any) -> Tensor:
        out: Tensor = rms_norm_rope(rows_BLF, norm.weight, num_heads=attn.heads, eps=norm.eps, rotary=rotary)
        return out

    return one(q_BLF, attn.norm_q), one(k_BLF, attn.norm_k)


def fuse_rms_norm(norm: Any, *, changes: Changes) -> None:
    """Change PyTorch's RMSNorm of (B, L, C) on a processor, such as that of queries for words; leave anything else."""
    is_plain = type(norm) is nn.RMSNorm and norm.weight is not None and norm.eps is not None
    if is_plain and norm.weight.device.type == "cpu":
        changes.set_forward(norm, partial(_normed, norm))


def _normed(norm: Any, x_BLC: Tensor) -> Tensor:
    return rms_norm_rope(x_BLC, norm.weight, num_heads=1, eps=norm.eps).flatten(2)


def eps_of(norm: Any, *, name: str, family: Family) -> float:
    """The epsilon of a norm that has no weights. Raises UnsupportedPass for any other."""
    eps = getattr(norm, "eps", None)
    if not isinstance(eps, float) or getattr(norm, "weight", None) is not None:
        raise UnsupportedPass(
            f"{name}: a norm of {family.model} ({type(norm).__name__}) has weights of its own or no epsilon; "
            f"leave {name} out"
        )
    return eps
