"""Norms fused with what follows them, so that a token is read once and written once.

    rms_norm_rope             RMSNorm of queries or keys (over all heads or each head), then rotary positions
    norm_modulate             LayerNorm (or RMSNorm) without weights, then x * (1 + scale) + shift
    norm_modulate_quantize    the same, straight into 8 bits for the linear layers that follow
    layer_norm                LayerNorm with weights

torch.library ops, which `torch.compile(fullgraph=True)` passes through: a Triton kernel where `support` finds one, and
else the same arithmetic in plain PyTorch, by a shorter way on a CPU. Sums are float32; results have the type of `x`.
There is no gradient.
"""

# ruff: noqa: ARG001, PLR0917  # an operator's arguments have places, and of its fake only the shapes are asked

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from homereel.core.errors import UnsupportedPass
from homereel.kernels.fused_norm import cpu, reference
from homereel.kernels.fused_norm.rotary import Rotary, rotary_of_channels, rotary_of_pairs
from homereel.kernels.fused_norm.support import support
from homereel.kernels.int8_linear import QuantizedActivation, Scheme
from homereel.kernels.int8_linear import reference as int8_reference

__all__ = [
    "Rotary",
    "layer_norm",
    "norm_modulate",
    "norm_modulate_quantize",
    "rms_norm_rope",
    "rotary_of_channels",
    "rotary_of_pairs",
    "support",
]

if TYPE_CHECKING:
    from types import ModuleType

_FLOATS = (torch.float32, torch.bfloat16, torch.float16)
_SHORT_WAYS = (torch.float32, torch.bfloat16)  # on a CPU


def rms_norm_rope(x_BLC: Tensor, weight: Tensor, *, num_heads: int, eps: float, rotary: Rotary | None = None) -> Tensor:
    """Queries or keys as attention takes them, (B, L, H, D), from what the projection gave.

    `weight` has C numbers for a norm across heads (Wan, LTX), or C / `num_heads` for one of each head (HunyuanVideo).
    """
    _check_type(x_BLC)
    channels, per_head = x_BLC.shape[2], x_BLC.shape[2] // num_heads
    assert weight.ndim == 1, f"weight {tuple(weight.shape)} for {tuple(x_BLC.shape)}"
    assert weight.shape[0] in (channels, per_head), f"weight {tuple(weight.shape)} for {tuple(x_BLC.shape)}"
    if rotary is None:
        return _rms_norm_rope(x_BLC, weight, None, None, num_heads, eps, True)
    shape = (*x_BLC.shape[:2], num_heads, per_head // 2)
    for table in (rotary.cos_BLHP, rotary.sin_BLHP):
        _check_broadcast(table, shape, allowed=(0, 2))
    interleaved = rotary.layout == "interleaved"
    cos, sin = rotary.cos_BLHP, rotary.sin_BLHP
    return _rms_norm_rope(x_BLC, weight, cos, sin, num_heads, eps, interleaved)


def norm_modulate(
    x_BLC: Tensor, *, scale: Tensor | None, shift: Tensor | None, eps: float, centre: bool = True
) -> Tensor:
    """`x` normed over its channels, times 1 + `scale`, plus `shift`; these are (B or 1, L or 1, C), of any float type.

    Without `centre` the norm is RMSNorm, as LTX has it.
    """
    _check_norm(x_BLC, scale, shift)
    return _norm_modulate(x_BLC, scale, shift, eps, True, centre)


def layer_norm(x_BLC: Tensor, *, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """LayerNorm over the channels, computed in float32; `weight` and `bias` are (C,)."""
    gain, offset = (None if given is None else given[None, None] for given in (weight, bias))
    _check_norm(x_BLC, gain, offset)
    return _norm_modulate(x_BLC, gain, offset, eps, False, True)


def norm_modulate_quantize(
    x_BLC: Tensor,
    *,
    scale: Tensor | None,
    shift: Tensor | None,
    eps: float,
    centre: bool = True,
    scheme: Scheme = "int8",
) -> QuantizedActivation:
    """`norm_modulate`, not rounded to the type of `x` but quantised for 8-bit linear layers, a scale a token.

    Raises UnsupportedPass for int8_block, whose scales need several tokens.
    """
    _check_norm(x_BLC, scale, shift)
    if scheme == "int8_block":
        raise UnsupportedPass("norms quantise a token at a time, int8_block needs 128; choose int8 or fp8")
    values_MK, steps = _norm_modulate_quantize(x_BLC, scale, shift, eps, True, centre, scheme)
    return QuantizedActivation(values_MK, steps, scheme, x_BLC.shape, x_BLC.dtype)


def _without_kernel(x: Tensor) -> ModuleType:
    """Who computes it in plain PyTorch."""
    return cpu if x.device.type == "cpu" and x.dtype in _SHORT_WAYS else reference


Compute = Callable[..., Tensor]


class _Operator:
    """A torch.library op. On a CPU it is called past the dispatcher, which takes as long as a short clip's norm."""

    def __init__(self, name: str, compute: Compute) -> None:
        self._compute, self._op = compute, torch.library.custom_op(name, compute, mutates_args=())
        self.register_fake = self._op.register_fake

    def __call__(self, x: Tensor, *others: object) -> Tensor:
        straight = x.device.type == "cpu" and not torch.compiler.is_compiling()
        out: Tensor = (self._compute if straight else self._op)(x, *others)
        return out


def _operator(name: str) -> Callable[[Compute], _Operator]:
    return lambda compute: _Operator(name, compute)


def _check_norm(x_BLC: Tensor, gain: Tensor | None, offset: Tensor | None) -> None:
    _check_type(x_BLC)
    for table in (gain, offset):
        if table is not None:
            _check_broadcast(table, tuple(x_BLC.shape), allowed=(0, 1))


def _check_type(x_BLC: Tensor) -> None:
    if x_BLC.dtype not in _FLOATS:
        raise UnsupportedPass(f"fused norms do not take {x_BLC.dtype}; give float32, bfloat16 or float16")


def _check_broadcast(table: Tensor, shape: tuple[int, ...], *, allowed: tuple[int, ...]) -> None:
    """`table` has this shape, or 1 in the dimensions that are allowed to be."""
    told = f"{tuple(table.shape)} does not fit {shape}"
    assert table.ndim == len(shape), told
    for dimension, size in enumerate(shape):
        assert table.shape[dimension] == size or (dimension in allowed and table.shape[dimension] == 1), told


@_operator("homereel::rms_norm_rope")
def _rms_norm_rope(
    x_BLC: Tensor,
    weight: Tensor,
    cos_BLHP: Tensor | None,
    sin_BLHP: Tensor | None,
    num_heads: int,
    eps: float,
    interleaved: bool,
) -> Tensor:
    given = (x_BLC, weight, cos_BLHP, sin_BLHP)
    if support(device=x_BLC.device, num_channels=weight.shape[0]) is not None:
        plain = _without_kernel(x_BLC)
        turned: Tensor = plain.rms_norm_rope(*given, num_heads=num_heads, eps=eps, interleaved=interleaved)
        return turned.contiguous()
    from homereel.kernels.fused_norm import triton as kernels

    with torch.cuda.device(x_BLC.device):
        return kernels.rms_norm_rope(*given, num_heads=num_heads, eps=eps, interleaved=interleaved)


@_rms_norm_rope.register_fake
def _(
    x_BLC: Tensor,
    weight: Tensor,
    cos_BLHP: Tensor | None,
    sin_BLHP: Tensor | None,
    num_heads: int,
    eps: float,
    interleaved: bool,
) -> Tensor:
    return x_BLC.new_empty((*x_BLC.shape[:2], num_heads, x_BLC.shape[2] // num_heads))


@_operator("homereel::norm_modulate")
def _norm_modulate(
    x_BLC: Tensor, gain: Tensor | None, offset: Tensor | None, eps: float, add_one: bool, centre: bool
) -> Tensor:
    given = (x_BLC.contiguous(), gain, offset)
    if support(device=x_BLC.device, num_channels=x_BLC.shape[2]) is not None:
        plain = _without_kernel(x_BLC)
        normed: Tensor = plain.norm_modulate(*given, eps=eps, add_one=add_one, centre=centre)
        return normed.to(x_BLC.dtype)
    from homereel.kernels.fused_norm import triton as kernels

    with torch.cuda.device(x_BLC.device):
        return kernels.norm_modulate(*given, eps=eps, add_one=add_one, centre=centre)


@_norm_modulate.register_fake
def _(x_BLC: Tensor, gain: Tensor | None, offset: Tensor | None, eps: float, add_one: bool, centre: bool) -> Tensor:
    return x_BLC.new_empty(x_BLC.shape)


@torch.library.custom_op("homereel::norm_modulate_quantize", mutates_args=())
def _norm_modulate_quantize(
    x_BLC: Tensor, gain: Tensor | None, offset: Tensor | None, eps: float, add_one: bool, centre: bool, scheme: str
) -> tuple[Tensor, Tensor]:
    given, known = (x_BLC.contiguous(), gain, offset), _row_scheme(scheme)
    if support(device=x_BLC.device, num_channels=x_BLC.shape[2]) is not None:
        out_BLC = _without_kernel(x_BLC).norm_modulate(*given, eps=eps, add_one=add_one, centre=centre)
        return int8_reference.quantize(out_BLC.flatten(0, 1), scheme=known)
    from homereel.kernels.fused_norm import triton as kernels

    with torch.cuda.device(x_BLC.device):
        return kernels.norm_modulate_quantize(*given, eps=eps, add_one=add_one, centre=centre, scheme=known)


@_norm_modulate_quantize.register_fake
def _(
    x_BLC: Tensor, gain: Tensor | None, offset: Tensor | None, eps: float, add_one: bool, centre: bool, scheme: str
) -> tuple[Tensor, Tensor]:
    values = torch.float8_e4m3fn if scheme == "fp8" else torch.int8
    num_tokens = x_BLC.shape[0] * x_BLC.shape[1]
    return x_BLC.new_empty((num_tokens, x_BLC.shape[2]), dtype=values), x_BLC.new_empty(num_tokens, dtype=torch.float32)


def _row_scheme(scheme: str) -> Scheme:
    if scheme not in ("int8", "fp8"):
        raise UnsupportedPass(f"norms quantise to int8 or fp8, not to {scheme!r}")
    return "fp8" if scheme == "fp8" else "int8"
