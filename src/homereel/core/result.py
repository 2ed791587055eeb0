"""What comes back: the frames, what they really took, and the record that can make them again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from homereel.core.plan import Plan
from homereel.core.request import Request
from homereel.core.sound import Sound


@dataclass(frozen=True)
class Timing:
    """Seconds spent in each stage of one clip."""

    load_seconds: float = 0.0
    text_seconds: float = 0.0
    denoise_seconds: float = 0.0
    decode_seconds: float = 0.0
    write_seconds: float = 0.0

    @property
    def total_seconds(self) -> float:
        """All stages together."""
        return self.load_seconds + self.text_seconds + self.denoise_seconds + self.decode_seconds + self.write_seconds


class Writer(Protocol):
    """Writes a result to a file and says where it went; handed in by the engine, so that core stays light."""

    def __call__(self, result: Result, target: str | Path, *, quality: int | None, private: bool) -> Path: ...


@dataclass
class Result:
    """One finished clip in memory. `frames` are (T, H, W, 3) RGB, before any lossy encoding; `sound` starts with
    the first of them.
    """

    frames: NDArray[np.uint8]
    fps: float
    request: Request
    plan: Plan
    timing: Timing
    peak_bytes: int
    record: Mapping[str, Any]
    writer: Writer = field(repr=False)
    sound: Sound | None = field(default=None, repr=False)

    def save(self, path: str | Path, *, quality: int | None = None, private: bool = False) -> Path:
        """Write the clip in the format that the name asks for: .mp4, .gif, .webp, .png (a contact sheet),
        name_%04d.png or a folder (PNG frames). Returns what was written. Of these only mp4 carries the sound.

        `quality` is 0 to 100; `private` keeps prompts, paths and the machine out of the file.
        Raises UnwritableTarget, and then leaves nothing behind.
        """
        return self.writer(self, path, quality=quality, private=private)

    @cached_property
    def frames_sha256(self) -> str:
        """The fingerprint of the raw frames, their shape included."""
        return frames_sha256(self.frames)

    @cached_property
    def sound_sha256(self) -> str | None:
        """The fingerprint of the raw sound; None for a silent clip."""
        return None if self.sound is None else sound_sha256(self.sound)


@dataclass(frozen=True)
class FiledClip:
    """One finished clip on disk: what a `Result` tells of one in memory."""

    path: Path
    fps: float
    request: Request
    plan: Plan
    timing: Timing
    peak_bytes: int
    record: Mapping[str, Any]
    frames_sha256: str
    sound_sha256: str | None


def frames_sha256(frames: NDArray[np.uint8]) -> str:
    """SHA-256 over the frames' shape and bytes, in hexadecimal."""
    digest = start_frames_hash(frames.shape)
    digest.update(np.ascontiguousarray(frames).data)
    return digest.hexdigest()


def start_frames_hash(shape: tuple[int, ...]) -> hashlib._Hash:
    """The same for frames (T, H, W, 3) that come one after the other: their bytes are still to be added."""
    return hashlib.sha256(repr(tuple(shape)).encode())


def sound_sha256(sound: Sound) -> str:
    """SHA-256 over the sound's shape, rate and samples, in hexadecimal."""
    digest = hashlib.sha256(repr((*sound.samples.shape, sound.rate)).encode())
    digest.update(np.ascontiguousarray(sound.samples, dtype="<f4").data)
    return digest.hexdigest()
