"""What a request becomes on one machine: all settled, every change told, before anything is loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal


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
class Residency:
    """Where a clip's weights are while it is made, and in what pieces its decoder works."""

    resident_blocks: int | None = None  # of a denoiser; the others are streamed to the GPU. None is all
    source: Literal["memory", "disk"] = "memory"  # where streamed blocks come from
    text_encoder: Literal["gpu", "cpu", "cached"] = "gpu"  # where it computes; "cached" needs no encoder
    vae_tiles: tuple[int, int, int] | None = None  # frames, height and width in pixels; None is the whole clip


@dataclass(frozen=True)
class Rung:
    """One step down, for a machine that has less room than it seemed to have."""

    name: str  # what it does, in words
    change: Mapping[str, Any]  # fields of Residency

    def below(self, residency: Residency | None) -> Residency:
        """How a clip goes on after this step."""
        return replace(residency or Residency(), **self.change)


@dataclass(frozen=True)
class StageCost:
    """What one stage of a clip takes: its time, and the most memory while it lasts, with all that is loaded then."""

    name: str
    seconds: float | None  # None while nothing is known of this machine
    vram_bytes: int  # 0 without a GPU
    ram_bytes: int


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
    seconds: float | None  # an estimate, from request to file; None while nothing is known of this machine
    guidance_2: float | None = None  # for the second expert, where there is one
    strength: float | None = None  # how much of footage or of a refined clip is made anew; else None
    extend_from: int | None = None  # frames of another clip that this one holds and goes on from
    keyframes: tuple[int, ...] = ()  # the frames that given pictures are for, the first and the last one included
    num_references: int = 0
    sound: bool = False
    loras: tuple[str, ...] = ()  # name:strength of each
    sigmas: tuple[float, ...] | None = None  # times that were given or distilled for; None is as the sampler has them
    passes: tuple[str, ...] = ()
    exactness: str = "exact"  # exact, approximate or distilled
    adjustments: tuple[str, ...] = ()  # a sentence for each wish that was moved to a legal value
    warnings: tuple[str, ...] = ()
    residency: Residency | None = None  # None: all of it in the memory that the device computes in
    rungs: tuple[Rung, ...] = ()  # what may be given up after an out-of-memory, in order
    stages: tuple[StageCost, ...] = ()
    band: tuple[float, float] | None = None  # seconds between which nine of ten runs end
    correction: float = 1.0  # what the ledger multiplied the seconds of all stages but loading by
    peak_ram_bytes: int = 0  # an estimate, of the host's memory that this process holds
    peak_correction: float = 1.0  # what the ledger multiplied the peak of the memory that computes by

    @property
    def peak_vram_bytes(self) -> int:
        """Of the GPU's memory; 0 where none computes."""
        return self.peak_bytes if self.device == "cuda" else 0

    @property
    def clip_seconds(self) -> float:
        """How long the film lasts."""
        return self.num_frames / self.fps

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON would have it."""
        told: dict[str, Any] = _plain(self)
        return told


_LEAVES = (str, int, float)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, _LEAVES):
        return value
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
