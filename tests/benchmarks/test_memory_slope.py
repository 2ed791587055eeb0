"""The slope of what is held after each clip is that of the line through it."""

from __future__ import annotations

import pytest

from memory_slope import resident_bytes, slope


def test_the_slope_is_that_of_the_line() -> None:
    assert slope([5.0, 7.0, 9.0, 11.0]) == pytest.approx(2.0)
    assert slope([4.0, 4.0, 4.0]) == 0
    assert slope([0.0, 9.0, 0.0, 9.0, 0.0]) == pytest.approx(0.0)


def test_what_is_resident_is_told() -> None:
    assert 10**7 < resident_bytes() < 10**12
