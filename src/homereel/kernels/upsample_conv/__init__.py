"""A 3 × 3 convolution of a doubled picture, which is never made: 2.25 times fewer multiplications.

Of the nine taps of such a kernel, those that fall on copies of one pixel act as one with their sum as its weight; so
each of the four kinds of output pixel is a 2 × 2 convolution of the small picture. `reference.py` is the specification;
results differ from it by rounding. For inference: there is no gradient.

Shapes: C and O channels in and out, T pictures, H height, W width.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from homereel.kernels.causal_conv.direct import convolve
from homereel.kernels.upsample_conv.reference import reference

__all__ = ["UpsampleConv", "reference"]

# Which taps of three fall on the earlier and the later of two neighbouring pixels, for even and odd outputs.
_TAPS = (((1.0, 0.0, 0.0), (0.0, 1.0, 1.0)), ((1.0, 1.0, 0.0), (0.0, 0.0, 1.0)))


class UpsampleConv:
    """One layer's weight (O, C, 3, 3), made ready for many pictures."""

    def __init__(self, weight_OCEF: Tensor, bias_O: Tensor | None) -> None:
        assert weight_OCEF.shape[2:] == (3, 3), weight_OCEF.shape
        taps = weight_OCEF.new_tensor(_TAPS, dtype=torch.float32)
        sums = torch.einsum("ake,blf,ocef->abockl", taps, taps, weight_OCEF.float()).to(weight_OCEF.dtype)
        self._weights = [[part.contiguous(memory_format=torch.channels_last) for part in row] for row in sums]
        self._bias = bias_O

    def __call__(self, x_TCHW: Tensor, *, out: Tensor) -> None:
        """Fill `out` (T, O, 2H, 2W)."""
        height, width = x_TCHW.shape[2:]
        for row, column in product((0, 1), (0, 1)):
            y = convolve(x_TCHW, self._weights[row][column], self._bias, padding=(1, 1))
            out[:, :, row::2, column::2] = y[:, :, row : row + height, column : column + width]
