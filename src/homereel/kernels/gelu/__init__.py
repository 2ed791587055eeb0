"""GELU in its tanh form, with a short way for a CPU.

tanh(u) = 2·σ(2u) − 1 makes x/2·(1 + tanh(u)) the same as x·σ(2u), and PyTorch's vectorised sigmoid takes a third of the
time of its tanh. Results differ by a few units in the last place; `F.gelu` is the specification. There is no gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["gelu_tanh"]

_SLOPE = 2 * math.sqrt(2 / math.pi)
_CUBIC = 0.044715 * _SLOPE


def gelu_tanh(x: Tensor) -> Tensor:
    """x·σ(2·√(2/π)·(x + 0.044715·x³)), of any shape and type; new memory."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.compiler.is_compiling():
        return F.gelu(x, approximate="tanh")
    inner = torch.addcmul(x.new_full((), _SLOPE), x, x, value=_CUBIC)
    return inner.mul_(x).sigmoid_().mul_(x)
