"""Structural similarity (SSIM) of two pictures, after Wang, Bovik, Sheikh and Simoncelli, 2004.

It is taken on luma alone, under a Gaussian window of 11 x 11 pixels, only where the window lies within the picture.
Shape letters: H height, W width, N the five fields whose local means decide.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from homereel.core.errors import MediaError

WINDOW = 11
_SIGMA = 1.5
_LUMA = (0.299, 0.587, 0.114)  # of BT.601, which published figures use for footage of any size
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_STRIP = 64  # lines at a time: what is computed stays in the cache, and a large picture takes little memory

Picture = NDArray[np.uint8]


def ssim(a_HWC: Picture, b_HWC: Picture) -> float:
    """1 for equal pictures, about 0 for unrelated ones, below 0 where light and dark are exchanged.

    Raises MediaError for pictures of different size or smaller than the window.
    """
    if a_HWC.shape != b_HWC.shape or a_HWC.ndim != 3:
        raise MediaError(f"pictures of shape {a_HWC.shape} and {b_HWC.shape} cannot be compared; they must be alike")
    height, width = (int(side) for side in a_HWC.shape[:2])
    if min(height, width) < WINDOW:
        raise MediaError(f"SSIM needs {WINDOW} pixels a side, and these pictures have {width}x{height}")
    num_lines = height - WINDOW + 1
    total = 0.0
    for first in range(0, num_lines, _STRIP):
        lines = slice(first, min(first + _STRIP, num_lines) + WINDOW - 1)
        total += float(_ssim_map(_luma(a_HWC[lines]), _luma(b_HWC[lines])).sum())
    return total / (num_lines * (width - WINDOW + 1))


def _luma(picture_HWC: Picture) -> NDArray[np.float64]:
    luma: NDArray[np.float64] = picture_HWC.astype(np.float64) @ np.array(_LUMA)
    return luma


def _ssim_map(a_HW: NDArray[np.float64], b_HW: NDArray[np.float64]) -> NDArray[np.float64]:
    """SSIM at every place of the window."""
    fields_NHW = np.stack([a_HW, b_HW, a_HW * a_HW, b_HW * b_HW, a_HW * b_HW])
    mean_a, mean_b, mean_aa, mean_bb, mean_ab = _slide(_slide(fields_NHW, axis=1), axis=2)
    product, squares = mean_a * mean_b, mean_a**2 + mean_b**2
    structure = (2 * (mean_ab - product) + _C2) / (mean_aa + mean_bb - squares + _C2)
    similarity: NDArray[np.float64] = (2 * product + _C1) / (squares + _C1) * structure
    return similarity


def _slide(fields: NDArray[np.float64], *, axis: int) -> NDArray[np.float64]:
    """Means under a Gaussian window that slides along an axis. The window is symmetric: ends are taken in pairs."""
    weights = _gaussian()
    num_places = fields.shape[axis] - WINDOW + 1

    def shifted(by: int) -> NDArray[np.float64]:
        return fields[(slice(None),) * axis + (slice(by, by + num_places),)]

    middle = WINDOW // 2
    means: NDArray[np.float64] = weights[middle] * shifted(middle)
    for tap in range(middle):
        means += weights[tap] * (shifted(tap) + shifted(WINDOW - 1 - tap))
    return means


def _gaussian() -> NDArray[np.float64]:
    weights = np.exp(-0.5 * ((np.arange(WINDOW) - WINDOW // 2) / _SIGMA) ** 2)
    normed: NDArray[np.float64] = weights / weights.sum()
    return normed
