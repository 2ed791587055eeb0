"""GELU in its tanh form, with short ways for a CPU: alone, and together with the layer before it.

tanh(u) = 2·σ(2u) − 1 makes x/2·(1 + tanh(u)) the same as x·σ(2u), and PyTorch's vectorised sigmoid takes a third of the
time of its tanh. Results differ by a few units in the last place; `F.gelu` is the specification. There is no gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from homereel.kernels.onednn import onednn_takes

__all__ = ["gelu_tanh", "linear_gelu_tanh"]

_SLOPE = 2 * math.sqrt(2 / math.pi)
_CUBIC = 0.044715 * _SLOPE


def linear_gelu_tanh(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """GELU of a linear layer's output. On a CPU oneDNN does both in one look, and rounds once.

    In bfloat16 by the error function, which is a quarter faster: it is 5e-4 off the tanh form at most, and what comes
    out is nearer to that form than what a rounded layer's output gives.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling() or not onednn_takes(x.dtype) or weight.dtype != x.dtype:
        return gelu_tanh(F.linear(x, weight, bias))
    form = "none" if x.dtype == torch.bfloat16 else "tanh"
    made: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], form)
    return made


def gelu_tanh(x: Tensor) -> Tensor:
    """x·σ(2·√(2/π)·(x + 0.044715·x³)), of any shape and type; new memory."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.compiler.is_compiling():
        return F.gelu(x, approximate="tanh")
    inner = torch.addcmul(x.new_full((), _SLOPE), x, x, value=_CUBIC)
    return inner.mul_(x).sigmoid_().mul_(x)
