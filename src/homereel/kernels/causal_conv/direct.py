"""Convolutions as the processor's own library does them, tap by tap."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, *, padding: tuple[int, ...]) -> Tensor:
    """A convolution in two or three dimensions with zeros beyond the edges.

    On a processor PyTorch gives small inputs to a loop of its own, which is three times slower than oneDNN.
    """
    dims = weight.ndim - 2
    if x.device.type == "cpu" and _onednn_takes(x.dtype):
        ones = [1] * dims
        y: Tensor = torch.mkldnn_convolution(x, weight, bias, list(padding), ones, ones, 1)
        return y
    return F.conv2d(x, weight, bias, padding=padding) if dims == 2 else F.conv3d(x, weight, bias, padding=padding)


def _onednn_takes(dtype: torch.dtype) -> bool:
    """bfloat16 only where the processor has instructions for it."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and _multiplies_bfloat16())


@cache
def _multiplies_bfloat16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
