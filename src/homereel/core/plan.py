"""What a request becomes on one machine: all settled, every change told, before anything is loaded."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Footage:
    """Given footage, before anything of it is decoded."""

    width: int
    height: int
    seconds: float

    def frames_at(self, fps: float) -> int:
        """How many frames it gives at this pace; one that would start just at its end is not counted."""
        return max(1, math.ceil((self.seconds - 0.001) * fps))


@dataclass(frozen=True)
class Plan:
    """A settled request. Two runs of one plan on one machine give the same frames."""

    model: str
    family: str
    width: int
    height: int
    num_frames: int
    fps: float
    steps: int
    guidance: float
    shift: float
    sampler: str
    seed: int
    device: str
    dtype: str
    num_tokens: int
    weight_bytes: int  # as held in memory in `dtype`
    peak_bytes: int  # an estimate, of the memory that the device computes in
    seconds: float | None  # an estimate; None while nothing is known of this machine
    guidance_2: float | None = None  # for the second expert, where there is one
    strength: float | None = None  # how much of given footage is made anew; None without footage
    keyframes: tuple[int, ...] = ()  # the frames that given pictures are for, the first and the last one included
    num_references: int = 0
    sound: bool = False
    loras: tuple[str, ...] = ()  # name:strength of each
    sigmas: tuple[float, ...] | None = None  # times that were given or distilled for; None is as the sampler has them
    passes: tuple[str, ...] = ()
    exactness: str = "exact"  # exact, approximate or distilled
    adjustments: tuple[str, ...] = ()  # a sentence for each wish that was moved to a legal value
    warnings: tuple[str, ...] = ()

    @property
    def clip_seconds(self) -> float:
        """How long the film lasts."""
        return self.num_frames / self.fps

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON would have it."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
