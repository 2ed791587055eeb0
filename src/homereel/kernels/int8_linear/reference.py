"""8-bit linear layers in plain PyTorch: the specification of the kernels, and the path of machines without them.

M tokens, N outputs, K inputs. Whatever is not finite makes the scale of its token (or block) NaN, so that it
shows in every output that would have depended on it, instead of turning into an ordinary number.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from homereel.kernels.int8_linear.schemes import BLOCK, RANGES, Scheme, scale_shape, scheme_of

_EXACT_INPUTS = 1024  # so many products of int8 add up exactly in float32


def quantize(x_MK: Tensor, *, scheme: Scheme) -> tuple[Tensor, Tensor]:
    """8-bit numbers (M, K) and their scale, float32: x = numbers * scale, of each token or block."""
    bounds = RANGES[scheme]
    x_MK = x_MK.float()
    finite_MK = x_MK.isfinite()
    clean_MK = torch.where(finite_MK, x_MK, 0.0)
    amax = _largest(clean_MK, scheme=scheme).clamp(min=bounds.floor)
    spoilt = _largest((~finite_MK).float(), scheme=scheme) > 0
    scale = torch.where(spoilt, torch.nan, amax / bounds.limit)
    inverse = amax.new_full((), bounds.limit) / amax  # a plain number would be multiplied by a rounded 1 / amax
    scaled_MK = (clean_MK * _spread(inverse, clean_MK)).clamp(bounds.lowest, bounds.highest)
    rounded_MK = scaled_MK.round() if bounds.dtype == torch.int8 else scaled_MK
    return rounded_MK.to(bounds.dtype), scale


def dequantize(values_MK: Tensor, scale: Tensor) -> Tensor:
    """The numbers that were stored, in float32."""
    return values_MK.float() * _spread(scale, values_MK)


def matmul(
    x_MK: Tensor,
    x_scale: Tensor,
    weight_NK: Tensor,
    weight_scale: Tensor,
    *,
    bias_N: Tensor | None,
    gelu: bool,
    dtype: torch.dtype,
) -> Tensor:
    """x times the transposed weight, plus bias, through GELU (tanh form) if asked: (M, N) in `dtype`."""
    if scheme_of(x_MK, x_scale) == "int8_block":
        out_MN = _matmul_blocks(x_MK, x_scale, weight_NK, weight_scale)
    else:
        total_MN = exact_int_matmul(x_MK, weight_NK).float() if x_MK.dtype == torch.int8 else _fp8(x_MK, weight_NK)
        out_MN = total_MN * weight_scale * x_scale[:, None]  # in this order a large x cannot overflow too early
    if bias_N is not None:
        out_MN = out_MN + bias_N.float()
    return (F.gelu(out_MN, approximate="tanh") if gelu else out_MN).to(dtype)


def exact_int_matmul(x_MK: Tensor, weight_NK: Tensor) -> Tensor:
    """int8 times int8, summed in int32 (M, N), on any device and for any shape."""
    if _has_int_matmul(x_MK, weight_NK):
        return torch._int_mm(x_MK, weight_NK.T)
    return int_matmul_by_float(x_MK, weight_NK)


def int_matmul_by_float(x_MK: Tensor, weight_NK: Tensor) -> Tensor:
    """The same by float32 products of so few inputs at a time that their sums are exact, in TF32 too."""
    total_MN = torch.zeros(x_MK.shape[0], weight_NK.shape[0], dtype=torch.int32, device=x_MK.device)
    for x, weight in zip(x_MK.split(_EXACT_INPUTS, 1), weight_NK.split(_EXACT_INPUTS, 1), strict=True):
        total_MN += (x.float() @ weight.float().T).to(torch.int32)
    return total_MN


def _has_int_matmul(x_MK: Tensor, weight_NK: Tensor) -> bool:
    """Whether PyTorch has such a product here, and a fast one: without VNNI or AMX it takes 25 times float32's time.

    With a single input PyTorch 2.13's hands out memory that it never wrote to.
    """
    if x_MK.device.type == "cpu":
        return x_MK.shape[1] > 1 and (torch.cpu._is_vnni_supported() or torch.cpu._is_amx_tile_supported())
    num_tokens, num_inputs = x_MK.shape
    aligned = num_tokens > 16 and num_inputs % 8 == 0 and weight_NK.shape[0] % 8 == 0
    return x_MK.device.type == "cuda" and aligned


def _matmul_blocks(x_MK: Tensor, x_scale: Tensor, weight_NK: Tensor, weight_scale: Tensor) -> Tensor:
    num_tokens, num_outputs = x_MK.shape[0], weight_NK.shape[0]
    total_MN = torch.zeros(num_tokens, num_outputs, device=x_MK.device)
    pairs = zip(x_MK.split(BLOCK, 1), weight_NK.split(BLOCK, 1), strict=True)
    for number, (x, weight) in enumerate(pairs):
        x_scale_M1 = x_scale[:, number].repeat_interleave(BLOCK)[:num_tokens, None]
        weight_scale_N = weight_scale[:, number].repeat_interleave(BLOCK)[:num_outputs]
        total_MN += exact_int_matmul(x.contiguous(), weight.contiguous()).float() * (x_scale_M1 * weight_scale_N)
    return total_MN


def _fp8(x_MK: Tensor, weight_NK: Tensor) -> Tensor:
    return x_MK.float() @ weight_NK.float().T


def _largest(x_MK: Tensor, *, scheme: Scheme) -> Tensor:
    """The largest magnitude that each scale has to cover."""
    if scheme != "int8_block":
        return x_MK.abs().amax(1)
    rows, columns = scale_shape(*x_MK.shape, scheme=scheme)
    whole = F.pad(x_MK.abs(), (0, columns * BLOCK - x_MK.shape[1], 0, rows * BLOCK - x_MK.shape[0]))
    blocks: Tensor = whole.unflatten(0, (rows, BLOCK)).unflatten(2, (columns, BLOCK))
    return blocks.amax((1, 3))


def _spread(scale: Tensor, values_MK: Tensor) -> Tensor:
    """A scale, one number for each of `values_MK` or each of its rows."""
    if scale.ndim == 1:
        return scale[:, None]
    whole = scale.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
    return whole[: values_MK.shape[0], : values_MK.shape[1]]
