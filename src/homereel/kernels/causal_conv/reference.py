"""A convolution over a clip that looks back in time and to all sides in space, in plain PyTorch: the specification.

Shapes: B batch, C and O channels in and out, T frames, P frames of the past, H height, W width, D E F kernel size.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def reference(x_BCTHW: Tensor, weight_OCDEF: Tensor, bias_O: Tensor | None) -> Tensor:
    """(B, O, T - P, H, W): the first P = D - 1 frames of `x` are the past of those behind them; pixels beyond the edge
    are zero.
    """
    *_, rows, columns = weight_OCDEF.shape
    return F.conv3d(x_BCTHW, weight_OCDEF, bias_O, padding=(0, rows // 2, columns // 2))
