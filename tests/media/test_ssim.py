"""SSIM against its definition, written out pixel by pixel, and what is told of many frames."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from homereel import media
from homereel.core.errors import MediaError
from homereel.media.likeness import compare_frames, spread
from homereel.media.ssim import WINDOW, ssim

Picture = NDArray[np.uint8]


def plain_ssim(a: Picture, b: Picture) -> float:
    """Equations 12 to 14 of the paper at every place of the window, one after the other."""
    offsets = np.arange(WINDOW) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    x_all, y_all = (picture @ np.array([0.299, 0.587, 0.114]) for picture in (a.astype(float), b.astype(float)))
    found = []
    for row in range(a.shape[0] - 10):
        for column in range(a.shape[1] - 10):
            x, y = (luma[row : row + 11, column : column + 11] for luma in (x_all, y_all))
            mean_x, mean_y = (window * x).sum(), (window * y).sum()
            var_x, var_y = (window * (x - mean_x) ** 2).sum(), (window * (y - mean_y) ** 2).sum()
            cov = (window * (x - mean_x) * (y - mean_y)).sum()
            c1, c2 = 6.5025, 58.5225  # (0.01 * 255)² and (0.03 * 255)²
            found.append(
                (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
            )
    return float(np.mean(found))


def noisy(picture: Picture, *, amount: float, seed: int = 0) -> Picture:
    noise = np.random.default_rng(seed).normal(0, amount, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(11, 11), (12, 40), (83, 17)])  # 83 lines are two strips
@pytest.mark.parametrize("amount", [2.0, 60.0])
def test_it_is_what_the_paper_defines(size: tuple[int, int], amount: float) -> None:
    """1e-9: both are in float64; means of squares lose about six digits of sixteen against squares of distances."""
    a = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    b = noisy(a, amount=amount)
    assert ssim(a, b) == pytest.approx(plain_ssim(a, b), abs=1e-9)


def test_a_value_from_elsewhere(clip: Picture) -> None:
    """scikit-image 0.26: structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    data_range=255) of the two lumas, which it holds to about 1e-12.
    """
    a = clip[0]
    assert ssim(a, noisy(a, amount=8.0)) == pytest.approx(0.6998920848778385, abs=1e-9)


def test_equal_and_opposite(clip: Picture) -> None:
    assert ssim(clip[0], clip[0]) == 1
    grain = np.random.default_rng(2).integers(0, 256, (32, 32, 1), np.uint8).repeat(3, axis=2)
    assert ssim(grain, 255 - grain) < -0.5


def test_colour_alone_does_not_count() -> None:
    """Red and green of the same luma, but for rounding to whole levels."""
    red, green = np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16, 3), np.uint8)
    red[...] = (196, 0, 0)
    green[...] = (0, 100, 0)
    assert ssim(red, green) > 0.9999


@pytest.mark.parametrize(("a", "b"), [((10, 20), (10, 20)), ((20, 20), (20, 21))])
def test_what_cannot_be_compared(a: tuple[int, int], b: tuple[int, int]) -> None:
    with pytest.raises(MediaError):
        ssim(np.zeros((*a, 3), np.uint8), np.zeros((*b, 3), np.uint8))


def test_frames_one_by_one(clip: Picture) -> None:
    other = clip.copy()
    other[3] = noisy(clip[3], amount=20.0)
    other[5] = noisy(clip[5], amount=5.0)
    seen: list[int] = []
    found = compare_frames(clip, other, on_frame=seen.append)
    assert seen == list(range(1, 10))
    assert found.worst_frame == 3
    assert not found.is_exact
    assert found.psnr[3] == media.psnr(clip[3], other[3]) < found.psnr[5] < found.psnr[4] == math.inf
    assert found.ssim is not None
    assert found.ssim[3] < found.ssim[5] < found.ssim[4] == 1
    assert found.whole_psnr == media.psnr(clip, other)
    told = found.as_dict()
    assert told["psnr"] == {"whole": found.whole_psnr, "median": None, "p5": found.psnr[3], "worst": found.psnr[3]}


def test_frames_too_small_for_the_window(clip: Picture) -> None:
    found = compare_frames(clip[:, :8, :8], clip[:, :8, :8])
    assert found.ssim is None
    assert found.is_exact


def test_clips_of_another_size(clip: Picture) -> None:
    with pytest.raises(MediaError):
        compare_frames(clip, clip[1:])


@pytest.mark.parametrize(("count", "low"), [(1, 1), (20, 1), (21, 2), (40, 2), (100, 5)])
def test_fifth_percentile(count: int, low: int) -> None:
    """At least 5 % of the figures are as low, and none of them is made up."""
    values = np.random.default_rng(0).permutation(np.arange(1.0, count + 1)).tolist()
    found = spread(values)
    assert (found.low, found.worst, found.median) == (low, 1, (count + 1) / 2)
