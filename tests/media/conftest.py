"""Clips, records and hostile files for the tests of the media room; everything is made on the spot."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from homereel import media

Clip = NDArray[np.uint8]
Patch = Callable[[bytearray], None]


@pytest.fixture(scope="session")
def clip() -> Clip:
    """Nine frames of 48 x 64: a red disc on a soft ground moves to the right."""
    y, x = np.mgrid[:48, :64]
    ground = np.stack([x + 60, y + 80, np.full_like(x, 110)], axis=-1).astype(np.uint8)
    frames = np.repeat(ground[None], 9, axis=0)
    for i, frame in enumerate(frames):
        frame[(x - 14 - 4 * i) ** 2 + (y - 24) ** 2 < 100] = (220, 40, 30)
    return frames


@pytest.fixture
def record() -> dict[str, Any]:
    return {
        "homereel": {
            "schema": 1,
            "version": "0.1",
            "created": "2026-11-21T21:00:00Z",
            "request": {
                "prompt": "a red ball bounces, übermütig",
                "negative_prompt": "blurry",
                "image": "/home/lovelace/secret.png",
                "seed": 7,
            },
            "resolved": {
                "model": "pocket",
                "family": "wan",
                "width": 64,
                "height": 48,
                "num_frames": 9,
                "fps": 16.0,
                "steps": 30,
                "guidance": 4.0,
                "shift": 3.0,
                "sampler": "unipc",
                "seed": 7,
            },
            "model": {"id": "pocket", "files": {"transformer/model.safetensors": "a" * 64}},
            "software": {"torch": "2.13.0", "python": "3.11.7"},
            "machine": {"name": "lovelace-laptop"},
            "frames_sha256": "b" * 64,
            "parents": ["/home/lovelace/first.mp4"],
            "ai_generated": True,
        }
    }


@pytest.fixture
def mp4(tmp_path: Path, clip: Clip) -> Path:
    return media.write_clip(clip, tmp_path / "good.mp4", fps=16)


@pytest.fixture
def patched(mp4: Path) -> Callable[[Patch], Path]:
    """Makes a hostile copy of a good mp4: hands its bytes to a function that spoils them."""

    def make(patch: Patch) -> Path:
        content = bytearray(mp4.read_bytes())
        patch(content)
        path = mp4.with_name("hostile.mp4")
        path.write_bytes(content)
        return path

    return make


@pytest.fixture
def put() -> Callable[[bytearray, bytes, int, int], None]:
    """Overwrites 32 bits at an offset behind the last occurrence of a box name."""

    def write(content: bytearray, name: bytes, offset: int, value: int) -> None:
        at = content.rindex(name) + 4 + offset
        content[at : at + 4] = struct.pack(">I", value)

    return write
