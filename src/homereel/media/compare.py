"""How far two clips are apart, as one figure."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from homereel.core.errors import MediaError


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB over all pixels of two equally large uint8 arrays; infinite if they
    are equal.
    """
    if a.shape != b.shape or a.size == 0:
        raise MediaError(f"clips of shape {a.shape} and {b.shape} cannot be compared; they must be equally large")
    # Frame by frame: the sum is exact in integers and needs no float copy of a whole clip.
    pairs = zip(a, b, strict=True) if a.ndim > 3 else [(a, b)]
    total = sum(int(np.square(x.astype(np.int32) - y.astype(np.int32)).sum(dtype=np.int64)) for x, y in pairs)
    return math.inf if total == 0 else 10 * math.log10(255**2 * a.size / total)
