"""How alike two clips are, frame by frame, and the three figures that sum up many: median, 5th percentile, worst."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homereel.core.errors import MediaError
from homereel.media.compare import psnr
from homereel.media.ssim import WINDOW, ssim

LOW_SHARE = 0.05


@dataclass(frozen=True)
class Spread:
    """Many figures in three. `low` is the 5th percentile: the lowest but the worst twentieth (of fewer than 21
    figures it is the worst itself).
    """

    median: float
    low: float
    worst: float

    def as_dict(self) -> dict[str, float | None]:
        """As JSON would have it, which knows no infinity: None there."""
        return {"median": _finite(self.median), "p5": _finite(self.low), "worst": _finite(self.worst)}


@dataclass(frozen=True)
class Likeness:
    """PSNR (dB, infinite where equal) and SSIM of each frame; SSIM is None for frames that its window does not fit.

    `whole_psnr` is over all pixels of all frames.
    """

    psnr: tuple[float, ...]
    ssim: tuple[float, ...] | None
    whole_psnr: float

    @property
    def is_exact(self) -> bool:
        """Whether all frames are equal."""
        return self.whole_psnr == math.inf

    @property
    def worst_frame(self) -> int:
        """Where PSNR is lowest."""
        return min(range(len(self.psnr)), key=self.psnr.__getitem__)

    def as_dict(self) -> dict[str, object]:
        """As JSON would have it; a PSNR of None means that frames are equal."""
        similar = self.ssim if self.ssim is not None else [None] * len(self.psnr)
        return {
            "exact": self.is_exact,
            "worst_frame": self.worst_frame,
            "psnr": {"whole": _finite(self.whole_psnr), **spread(self.psnr).as_dict()},
            "ssim": None if self.ssim is None else spread(self.ssim).as_dict(),
            "frames": [{"psnr": _finite(a), "ssim": b} for a, b in zip(self.psnr, similar, strict=True)],
        }


def compare_frames(
    a: NDArray[np.uint8], b: NDArray[np.uint8], *, on_frame: Callable[[int], None] | None = None
) -> Likeness:
    """Compare two clips (T, H, W, 3) of one size and length. `on_frame` is told how many frames are done.

    Raises MediaError if they are not equally large.
    """
    if a.shape != b.shape or a.ndim != 4 or a.size == 0:
        raise MediaError(f"clips of shape {a.shape} and {b.shape} cannot be compared; they must be equally large")
    ratios, similarities = [], []
    fits = min(a.shape[1:3]) >= WINDOW
    for index, (x, y) in enumerate(zip(a, b, strict=True), start=1):
        ratios.append(psnr(x, y))
        if fits:
            similarities.append(1.0 if ratios[-1] == math.inf else ssim(x, y))
        if on_frame is not None:
            on_frame(index)
    return Likeness(tuple(ratios), tuple(similarities) if fits else None, psnr(a, b))


def spread(values: Sequence[float]) -> Spread:
    """The three figures of one or more, infinite ones included, where more is better."""
    ordered = sorted(values)
    return Spread(
        median=statistics.median(ordered),
        low=ordered[max(math.ceil(LOW_SHARE * len(ordered)) - 1, 0)],
        worst=ordered[0],
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
