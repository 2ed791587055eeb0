"""Convolutions as the processor's own library does them, tap by tap."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from homereel.kernels.onednn import onednn_takes


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, *, padding: tuple[int, ...]) -> Tensor:
    """A convolution in two or three dimensions with zeros beyond the edges.

    On a processor PyTorch gives small inputs to a loop of its own, which is three times slower than oneDNN.
    """
    dims = weight.ndim - 2
    if x.device.type == "cpu" and onednn_takes(x.dtype):
        ones = [1] * dims
        y: Tensor = torch.mkldnn_convolution(x, weight, bias, list(padding), ones, ones, 1)
        return y
    return F.conv2d(x, weight, bias, padding=padding) if dims == 2 else F.conv3d(x, weight, bias, padding=padding)
