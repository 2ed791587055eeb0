"""What a sound may be, and its fingerprint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from homereel.core.errors import MediaError
from homereel.core.request import Request
from homereel.core.result import Result, Timing, sound_sha256
from homereel.core.sound import Sound


def test_a_sound_knows_its_length() -> None:
    sound = Sound(np.zeros((24_000, 2), np.float32), 48_000)
    assert (sound.num_samples, sound.num_channels, sound.seconds) == (24_000, 2, 0.5)


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros((0, 1), np.float32), 48_000, "no samples"),
        (np.zeros((5, 9), np.float32), 48_000, "9 channels; 1 to 8"),
        (np.zeros((5, 0), np.float32), 48_000, "0 channels"),
        (np.zeros(5, np.float32), 48_000, r"float32 \(5,\); it must be"),
        (np.zeros((5, 1)), 48_000, "float64"),
        ([0.0], 48_000, "a sound is list"),
        (np.full((5, 1), np.nan, np.float32), 48_000, "not finite"),
        (np.full((5, 1), -np.inf, np.float32), 48_000, "not finite"),
        (np.zeros((5, 1), np.float32), 7_999, "7999 samples a second; 8,000 to 192,000"),
        (np.zeros((5, 1), np.float32), 192_001, "192001 samples"),
        (np.zeros((5, 1), np.float32), 44_100.0, "whole number"),
        (np.zeros((5, 1), np.float32), True, "True samples"),
    ],
)
def test_what_is_no_sound_is_refused(samples: Any, rate: Any, message: str) -> None:
    with pytest.raises(MediaError, match=message) as caught:
        Sound(samples, rate)
    assert "\n" not in str(caught.value)


def test_the_fingerprint_knows_shape_rate_and_samples() -> None:
    samples = np.linspace(-1, 1, 12, dtype=np.float32).reshape(6, 2)
    sounds = [
        Sound(samples, 48_000),
        Sound(samples, 44_100),
        Sound(samples.reshape(12, 1), 48_000),
        Sound(samples[::-1], 48_000),
    ]
    assert len({sound_sha256(sound) for sound in sounds}) == len(sounds)
    assert sound_sha256(Sound(samples.copy(), 48_000)) == sound_sha256(sounds[0])


def test_a_result_is_silent_unless_told() -> None:
    def writer(result: Result, target: str | Path, *, quality: int | None, private: bool) -> Path:
        return Path(target)

    given: dict[str, Any] = {
        "frames": np.zeros((1, 2, 2, 3), np.uint8),
        "fps": 8,
        "request": Request(prompt="x"),
        "plan": None,
        "timing": Timing(),
        "peak_bytes": 0,
        "record": {},
        "writer": writer,
    }
    sound = Sound(np.zeros((5, 1), np.float32), 48_000)
    assert Result(**given).sound is None
    assert Result(**given).sound_sha256 is None
    assert Result(**given, sound=sound).sound_sha256 == sound_sha256(sound)
