"""What a bench measures of one clip, and what it makes of all clips of a side. No torch: a parent only reckons."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

STAGES = ("load", "text", "transformer", "vae", "encode", "other")


@dataclass(frozen=True)
class Figures:
    """One clip, prompt to file. `transformer_seconds` are those of the whole denoising loop, `vae_seconds` go from
    latents to frames in 8 bits or as the pipeline gives them, `encode_seconds` from these to the finished file.

    `peak_bytes` is of the GPU where one computes, else of the process; 0 is unknown.
    """

    total_seconds: float
    text_seconds: float
    transformer_seconds: float
    vae_seconds: float
    encode_seconds: float
    load_seconds: float
    peak_bytes: int

    @property
    def other_seconds(self) -> float:
        """What is no stage: settling the wish, hashing, handing over."""
        return max(0.0, self.total_seconds - sum(self.stage(name) for name in STAGES[:-1]))

    def stage(self, name: str) -> float:
        """Seconds of one of STAGES."""
        found: float = getattr(self, f"{name}_seconds")
        return found

    def as_dict(self) -> dict[str, Any]:
        """As JSON would have it."""
        return asdict(self) | {"other_seconds": self.other_seconds}

    @classmethod
    def parse(cls, told: Mapping[str, Any]) -> Figures:
        """From the words of a child process; what it does not know is left out there."""
        return cls(**{field.name: told[field.name] for field in fields(cls)})


@dataclass(frozen=True)
class SideFigures:
    """All clips of one side: the first of a new process, and those after it. `cold_seconds` go from the start of the
    process to its first finished file. `exam` is the share of the exam's clips in which all is right."""

    cold_seconds: float
    cold: Figures
    warm: tuple[Figures, ...]
    exam: float | None = None

    @property
    def seconds(self) -> float:
        """A warm clip, prompt to file: median."""
        return statistics.median(clip.total_seconds for clip in self.warm)

    def stage(self, name: str) -> float:
        """One of STAGES of a warm clip: median."""
        return statistics.median(clip.stage(name) for clip in self.warm)

    @property
    def peak_bytes(self) -> int:
        """The most that any of its clips took, the loading of the weights included."""
        return max(clip.peak_bytes for clip in (self.cold, *self.warm))


@dataclass(frozen=True)
class Bench:
    """Both sides, and how they were measured; `plans` tell what each was asked for."""

    baseline: SideFigures
    turbo: SideFigures
    plans: Mapping[str, Mapping[str, Any]]
    machine: Mapping[str, Any]
    prompt: str
    interleaved: bool
    exam_clips: int = 0
    remarks: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        """As JSON would have it. Seconds are of warm clips unless they stand under "cold"; a ratio above 1 says that
        turbo is faster, None that it took no measurable time."""
        sides = {"baseline": self.baseline, "turbo": self.turbo}
        return {
            "baseline_seconds": self.baseline.seconds,
            "turbo_seconds": self.turbo.seconds,
            "ratio": _ratio(self.baseline.seconds, self.turbo.seconds),
            "baseline_transformer_seconds": self.baseline.stage("transformer"),
            "turbo_transformer_seconds": self.turbo.stage("transformer"),
            "transformer_ratio": self.ratio("transformer"),
            "vae_ratio": self.ratio("vae"),
            "baseline_exam": self.baseline.exam,
            "turbo_exam": self.turbo.exam,
            "exam_clips": self.exam_clips,
            "split": {name: {stage: side.stage(stage) for stage in STAGES} for name, side in sides.items()},
            "cold": {
                **{f"{name}_seconds": side.cold_seconds for name, side in sides.items()},
                "ratio": _ratio(self.baseline.cold_seconds, self.turbo.cold_seconds),
                "split": {name: {stage: side.cold.stage(stage) for stage in STAGES} for name, side in sides.items()},
            },
            "peak": {f"{name}_bytes": side.peak_bytes for name, side in sides.items()},
            "prompt": self.prompt,
            "plans": {name: dict(plan) for name, plan in self.plans.items()},
            "machine": dict(self.machine),
            "interleaved": self.interleaved,
            "num_warm": len(self.turbo.warm),
            "clips": {
                name: {"cold": side.cold.as_dict(), "warm": [clip.as_dict() for clip in side.warm]}
                for name, side in sides.items()
            },
            "remarks": list(self.remarks),
        }

    def ratio(self, stage: str) -> float | None:
        """How many times as fast turbo goes through one of STAGES."""
        return _ratio(self.baseline.stage(stage), self.turbo.stage(stage))


def _ratio(slow: float, fast: float) -> float | None:
    return slow / fast if fast > 0 else None
