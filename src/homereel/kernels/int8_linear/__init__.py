"""Linear layers in 8 bits: activations are quantised as they come, weights once.

    xq = quantize_activation(x)                        once for all layers that take x
    q = quantized_matmul(xq, weight, scale, bias=bias)
    k = ...

Both are torch.library ops, which `torch.compile(fullgraph=True)` passes through. They run a Triton kernel where
`support` finds one, and else the same arithmetic in plain PyTorch. There is no gradient.
"""

# ruff: noqa: ARG001, PLR0917  # an operator's arguments have places, and of its fake only the shapes are asked

from __future__ import annotations

import torch
from torch import Tensor

from homereel.core.errors import UnsupportedPass
from homereel.kernels.int8_linear import reference
from homereel.kernels.int8_linear.schemes import (
    BLOCK,
    FLOATS,
    SCHEMES,
    QuantizedActivation,
    Scheme,
    known_scheme,
    scale_shape,
    scheme_of,
)
from homereel.kernels.int8_linear.support import capability_support, preferred_scheme, support
from homereel.kernels.int8_linear.tiles import choose_tile

__all__ = [
    "BLOCK",
    "SCHEMES",
    "QuantizedActivation",
    "Scheme",
    "capability_support",
    "dequantize_weight",
    "preferred_scheme",
    "quantize_activation",
    "quantize_weight",
    "quantized_linear",
    "quantized_matmul",
    "support",
]


def quantize_activation(x: Tensor, *, scheme: Scheme = "int8") -> QuantizedActivation:
    """`x` (..., K) in 8 bits. A token (int8_block: a block) that is not finite gets NaN for its scale.

    Raises UnsupportedPass for a type that is not float32, bfloat16 or float16.
    """
    if x.dtype not in FLOATS:
        raise UnsupportedPass(f"{x.dtype} cannot be quantised to 8 bits; give float32, bfloat16 or float16")
    values_MK, scale = _quantize(x.reshape(-1, x.shape[-1]), scheme)
    return QuantizedActivation(values_MK, scale, scheme, x.shape, x.dtype)


def quantize_weight(weight_NK: Tensor, *, scheme: Scheme = "int8") -> tuple[Tensor, Tensor]:
    """A layer's weight (N outputs, K inputs) in 8 bits and its scale, (N,) or one a block. Raises UnsupportedPass
    if a weight is not finite, or for a type that is not float32, bfloat16 or float16."""
    if weight_NK.dtype not in FLOATS:
        raise UnsupportedPass(f"{weight_NK.dtype} cannot be quantised to 8 bits; give float32, bfloat16 or float16")
    if not bool(weight_NK.isfinite().all()):
        raise UnsupportedPass("a weight is NaN or infinite and cannot be quantised; fetch the model's files again")
    return reference.quantize(weight_NK, scheme=scheme)


def dequantize_weight(values_NK: Tensor, scale: Tensor) -> Tensor:
    """The float32 numbers that an 8-bit weight stands for."""
    return reference.dequantize(values_NK, scale)


def quantized_matmul(
    x: QuantizedActivation,
    weight_NK: Tensor,
    scale: Tensor,
    *,
    bias: Tensor | None = None,
    gelu: bool = False,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """`x` times the transposed weight, plus bias, through GELU (tanh form) if asked: (..., N).

    `weight_NK` and `scale` are what `quantize_weight` gave, in the scheme of `x`. The sums are exact in int8, and
    scales, bias and GELU are float32; `dtype` of the result is that of the quantised tensor unless given.
    """
    num_outputs, num_inputs = weight_NK.shape
    assert num_inputs == x.values_MK.shape[1], f"{tuple(weight_NK.shape)} weights for {tuple(x.shape)}"
    assert weight_NK.dtype == x.values_MK.dtype, f"{weight_NK.dtype} weights for activations in {x.scheme}"
    assert scale.shape == scale_shape(num_outputs, num_inputs, scheme=x.scheme), f"scale {tuple(scale.shape)}"
    out_MN: Tensor = _matmul(x.values_MK, x.scale, weight_NK, scale, bias, gelu, x.dtype if dtype is None else dtype)
    return out_MN.reshape(*x.shape[:-1], num_outputs)


def quantized_linear(
    x: Tensor,
    weight_NK: Tensor,
    scale: Tensor,
    *,
    bias: Tensor | None = None,
    gelu: bool = False,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """`quantize_activation`, then `quantized_matmul`, in the scheme that the weight is in."""
    xq = quantize_activation(x, scheme=scheme_of(weight_NK, scale))
    return quantized_matmul(xq, weight_NK, scale, bias=bias, gelu=gelu, dtype=dtype)


@torch.library.custom_op("homereel::quantize_activation", mutates_args=())
def _quantize(x_MK: Tensor, scheme: str) -> tuple[Tensor, Tensor]:
    known = known_scheme(scheme)
    if support(known, device=x_MK.device) is not None:
        return reference.quantize(x_MK.contiguous(), scheme=known)
    from homereel.kernels.int8_linear import triton as kernels

    with torch.cuda.device(x_MK.device):
        return kernels.quantize(x_MK.contiguous(), scheme=known)


@_quantize.register_fake
def _(x_MK: Tensor, scheme: str) -> tuple[Tensor, Tensor]:
    values = torch.float8_e4m3fn if scheme == "fp8" else torch.int8
    shape = scale_shape(*x_MK.shape, scheme=known_scheme(scheme))
    return x_MK.new_empty(x_MK.shape, dtype=values), x_MK.new_empty(shape, dtype=torch.float32)


@torch.library.custom_op("homereel::quantized_matmul", mutates_args=())
def _matmul(
    x_MK: Tensor,
    x_scale: Tensor,
    weight_NK: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None,
    gelu: bool,
    dtype: torch.dtype,
) -> Tensor:
    scheme, (num_tokens, num_inputs) = scheme_of(x_MK, x_scale), x_MK.shape
    if support(scheme, device=x_MK.device, num_inputs=num_inputs) is not None:
        return reference.matmul(x_MK, x_scale, weight_NK, weight_scale, bias_N=bias, gelu=gelu, dtype=dtype)
    from homereel.kernels.int8_linear import triton as kernels

    x_MK, weight_NK = x_MK.contiguous(), weight_NK.contiguous()
    tile = choose_tile(
        num_tokens,
        num_outputs=weight_NK.shape[0],
        scheme=scheme,
        capability=torch.cuda.get_device_capability(x_MK.device),
        aligned=num_inputs % 16 == 0 and x_MK.data_ptr() % 16 == 0 and weight_NK.data_ptr() % 16 == 0,
    )
    given = (x_MK, x_scale.contiguous(), weight_NK, weight_scale.contiguous())
    bias_N = None if bias is None else bias.contiguous()
    with torch.cuda.device(x_MK.device):
        return kernels.matmul(*given, bias_N=bias_N, gelu=gelu, dtype=dtype, tile=tile)


@_matmul.register_fake
def _(
    x_MK: Tensor,
    x_scale: Tensor,
    weight_NK: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None,
    gelu: bool,
    dtype: torch.dtype,
) -> Tensor:
    return x_MK.new_empty((x_MK.shape[0], weight_NK.shape[0]), dtype=dtype)
