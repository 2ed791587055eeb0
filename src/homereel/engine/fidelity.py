"""How far a change (such as a faster pass) moves a model's clips: each is made from the same seed with and without it.

Frames are compared by PSNR and SSIM, latents by their cosine and the distance's share. The unchanged clip is made
twice: what its two runs differ by is the floor under which no difference means anything.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from homereel.core.errors import InvalidRequest
from homereel.core.events import OnProgress, ShouldStop
from homereel.core.plan import Plan
from homereel.core.request import Request
from homereel.engine.generate import generate, make_plan
from homereel.engine.session import Session
from homereel.engine.state import DenoiseState
from homereel.media.likeness import compare_frames, spread

Latents = NDArray[np.float32]


@dataclass(frozen=True)
class Subject:
    """One clip to measure by."""

    prompt: str
    seed: int


@dataclass(frozen=True)
class Distance:
    """Two clips of one subject; more is nearer.

    `psnr` (dB) is over all pixels and infinite if they are equal; `ssim` is the mean over frames, None for frames that
    are too small for it. `latent_snr` is the latents' energy against that of their difference, in dB.
    """

    psnr: float
    ssim: float | None
    latent_cosine: float
    latent_snr: float

    @property
    def is_exact(self) -> bool:
        """Whether latents and frames are the same to the bit."""
        return self.psnr == self.latent_snr == math.inf

    def as_dict(self) -> dict[str, float | None]:
        """As JSON would have it: None where there is no difference to speak of."""
        return {name: None if value == math.inf else value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Measured:
    """One subject: the changed clip against the unchanged one; `again` is that one against its own second run."""

    subject: Subject
    changed: Distance
    again: Distance | None
    base_seconds: float
    changed_seconds: float


@dataclass(frozen=True)
class Fidelity:
    """What a change does to the clips of a model; `base` and `other` are the plans of the first subject."""

    base: Plan
    other: Plan
    clips: tuple[Measured, ...]

    @property
    def changed(self) -> tuple[Distance, ...]:
        return tuple(clip.changed for clip in self.clips)

    @property
    def floor(self) -> tuple[Distance, ...]:
        """The unchanged clips against themselves, as many as were made twice."""
        return tuple(clip.again for clip in self.clips if clip.again is not None)

    @property
    def seconds(self) -> tuple[float, float]:
        """Seconds of denoising, unchanged and changed: medians."""
        base, changed = zip(*((clip.base_seconds, clip.changed_seconds) for clip in self.clips), strict=True)
        return statistics.median(base), statistics.median(changed)

    def as_dict(self) -> dict[str, Any]:
        """As JSON would have it; a figure of None means that there is no difference."""
        base, changed = self.seconds
        return {
            "base": self.base.as_dict(),
            "changed": self.other.as_dict(),
            **summary(self.changed),
            "floor": summary(self.floor) if self.floor else None,
            "denoise_seconds": {"base": base, "changed": changed, "speedup": base / changed},
            "clips": [
                {
                    **asdict(clip.subject),
                    **clip.changed.as_dict(),
                    "floor": None if clip.again is None else clip.again.as_dict(),
                    "denoise_seconds": {"base": clip.base_seconds, "changed": clip.changed_seconds},
                }
                for clip in self.clips
            ],
        }


def measure_fidelity(
    base: Request,
    changed: Request,
    *,
    subjects: Sequence[Subject],
    session: Session,
    num_again: int | None = None,
    on_clip: Callable[[int, int], None] | None = None,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> Fidelity:
    """Make every subject as `base` and as `changed` would have it; prompt and seed of the two requests do not count.

    `num_again` is how many of them are made as `base` twice, by default all. `on_clip` is told the number of each clip
    that begins, from 1, and of how many. Raises InvalidRequest if the change gives clips of another size or length,
    and what `generate` raises.
    """
    if not subjects:
        raise InvalidRequest("there is nothing to measure by; give one prompt or more", field="prompt")
    plans = [make_plan(_asked(request, subjects[0]), session=session) for request in (base, changed)]
    _check_alike(*plans)
    twice = subjects if num_again is None else subjects[:num_again]
    work = [(base, subject) for subject in (*subjects, *twice)] + [(changed, subject) for subject in subjects]

    def make(index: int) -> _Made:
        if on_clip is not None:
            on_clip(index + 1, len(work))
        request, subject = work[index]
        return _make(_asked(request, subject), session=session, on_progress=on_progress, should_stop=should_stop)

    count = len(subjects)
    with tempfile.TemporaryDirectory(prefix="homereel-") as folder:  # the unchanged clips would fill the memory
        kept = [make(index).keep(Path(folder), index) for index in range(count)]
        again = [_distance(kept[index].load(), make(count + index)) for index in range(len(twice))]
        clips = []
        for index, subject in enumerate(subjects):
            other = make(count + len(twice) + index)
            clips.append(
                Measured(
                    subject=subject,
                    changed=_distance(kept[index].load(), other),
                    again=again[index] if index < len(again) else None,
                    base_seconds=kept[index].seconds,
                    changed_seconds=other.seconds,
                )
            )
    return Fidelity(base=plans[0], other=plans[1], clips=tuple(clips))


def summary(distances: Sequence[Distance]) -> dict[str, Any]:
    """Median and 5th percentile of each figure over clips, and whether all are exact."""
    shown: dict[str, Any] = {"exact": all(distance.is_exact for distance in distances), "num_clips": len(distances)}
    for name in ("psnr", "ssim", "latent_cosine", "latent_snr"):
        values = [getattr(distance, name) for distance in distances]
        told = None if None in values else spread(values).as_dict()
        shown[name] = told and {key: told[key] for key in ("median", "p5")}
    return shown


@dataclass(frozen=True)
class _Made:
    frames: NDArray[np.uint8]
    latents: Latents
    seconds: float

    def keep(self, folder: Path, index: int) -> _Kept:
        """Put it on disk until it is compared."""
        kept = _Kept(folder / f"{index}.frames.npy", folder / f"{index}.latents.npy", self.seconds)
        np.save(kept.frames, self.frames)
        np.save(kept.latents, self.latents)
        return kept


@dataclass(frozen=True)
class _Kept:
    frames: Path
    latents: Path
    seconds: float

    def load(self) -> _Made:
        return _Made(np.load(self.frames), np.load(self.latents), self.seconds)


def _asked(request: Request, subject: Subject) -> Request:
    return request.replace(prompt=subject.prompt, seed=subject.seed)


def _check_alike(base: Plan, changed: Plan) -> None:
    for name in ("model", "width", "height", "num_frames"):
        a, b = getattr(base, name), getattr(changed, name)
        if a != b:
            raise InvalidRequest(
                f"{name} would be {a} without the change and {b} with it; only clips of one {name} can be compared",
                field=name,
            )


def _make(
    request: Request, *, session: Session, on_progress: OnProgress | None, should_stop: ShouldStop | None
) -> _Made:
    last: dict[int, DenoiseState] = {}

    def keep(state: DenoiseState) -> None:
        last[state.stage] = state

    result = generate(request, session=session, on_state=keep, on_progress=on_progress, should_stop=should_stop)
    # Each stage's own last latents, one after the other: a film made in windows shows a change in any of them.
    stages = [last[stage].solver.sample.detach().float().cpu().flatten() for stage in sorted(last)]
    return _Made(result.frames, torch.cat(stages).numpy(), result.timing.denoise_seconds)


def _distance(base: _Made, other: _Made) -> Distance:
    likeness = compare_frames(base.frames, other.frames)
    cosine, ratio = _latent_distance(base.latents, other.latents)
    return Distance(
        psnr=likeness.whole_psnr,
        ssim=None if likeness.ssim is None else statistics.fmean(likeness.ssim),
        latent_cosine=cosine,
        latent_snr=ratio,
    )


def _latent_distance(base: Latents, other: Latents) -> tuple[float, float]:
    """Cosine, and signal to difference in dB."""
    if np.array_equal(base, other):
        return 1.0, math.inf
    a, b = base.astype(np.float64), other.astype(np.float64)
    cosine = float(a @ b / math.sqrt((a @ a) * (b @ b)))
    return cosine, 10 * math.log10(float(a @ a) / float((a - b) @ (a - b)))
