"""Compare two files as their viewers would meet them: size, length, pace, every frame, and the sound."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from homereel.core.sound import Sound
from homereel.media.likeness import Likeness, compare_frames
from homereel.media.read import Clip, read_clip
from homereel.media.read_sound import read_sound

SoundVerdict = Literal["same", "different", "absent", "only in the first", "only in the second"]


@dataclass(frozen=True)
class Measure:
    """What one of the files is."""

    width: int
    height: int
    num_frames: int
    fps: float


@dataclass(frozen=True)
class Comparison:
    """`likeness` is of the frames that both have, counted from the first; None if they differ in size.

    `differences` holds a sentence for each of size, length and pace that is not the same.
    """

    first: Measure
    second: Measure
    likeness: Likeness | None
    sound: SoundVerdict
    differences: tuple[str, ...]

    @property
    def is_identical(self) -> bool:
        """Whether a viewer gets the very same: frames, pace and sound."""
        return (
            not self.differences and self.sound in ("same", "absent") and bool(self.likeness and self.likeness.is_exact)
        )

    def as_dict(self) -> dict[str, object]:
        """As JSON would have it."""
        return {
            "first": asdict(self.first),
            "second": asdict(self.second),
            "identical": self.is_identical,
            "differences": list(self.differences),
            "sound": self.sound,
            "compared_frames": 0 if self.likeness is None else len(self.likeness.psnr),
            **({"psnr": None, "ssim": None} if self.likeness is None else self.likeness.as_dict()),
        }


def compare_files(
    first: str | Path, second: str | Path, *, on_frame: Callable[[int, int], None] | None = None
) -> Comparison:
    """Compare two clips of any kind that `read_clip` reads. `on_frame` is told how many of how many frames are done.

    Raises what `read_clip` and `read_sound` raise.
    """
    a, b = read_clip(first), read_clip(second)
    sound = compare_sound(read_sound(first), read_sound(second))
    shared = min(len(a.frames), len(b.frames))
    likeness = None
    if a.frames.shape[1:] == b.frames.shape[1:]:
        told = None if on_frame is None else lambda done: on_frame(done, shared)
        likeness = compare_frames(a.frames[:shared], b.frames[:shared], on_frame=told)
    return Comparison(_measure(a), _measure(b), likeness, sound, tuple(_differences(_measure(a), _measure(b))))


def compare_sound(first: Sound | None, second: Sound | None) -> SoundVerdict:
    """Whether two sounds are the same to the sample."""
    if first is None or second is None:
        if first is second:
            return "absent"
        return "only in the second" if first is None else "only in the first"
    same = first.rate == second.rate and np.array_equal(first.samples, second.samples)
    return "same" if same else "different"


def _measure(clip: Clip) -> Measure:
    num_frames, height, width = clip.frames.shape[:3]
    return Measure(width=width, height=height, num_frames=num_frames, fps=clip.fps)


def _differences(a: Measure, b: Measure) -> list[str]:
    told = []
    alike = (a.width, a.height) == (b.width, b.height)
    if not alike:
        told.append(f"size: {a.width}x{a.height} and {b.width}x{b.height}; bring both to one size to compare frames")
    if a.num_frames != b.num_frames:
        compared = f"; the first {min(a.num_frames, b.num_frames)} of each are compared" if alike else ""
        told.append(f"length: {a.num_frames} and {b.num_frames} frames{compared}")
    if not math.isclose(a.fps, b.fps, rel_tol=1e-3):  # a container rounds times
        compared = "; frames are compared by their number, not their time" if alike else ""
        told.append(f"pace: {a.fps:g} and {b.fps:g} frames a second{compared}")
    return told
