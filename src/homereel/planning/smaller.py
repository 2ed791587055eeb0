"""What to say of a clip that fits nowhere: by how much it is too large, and the smallest change that would fit."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, replace

from homereel.core.plan import Plan
from homereel.planning.cost import Workload
from homereel.planning.fitting import Limits, fit, least_bytes

_SCALES = tuple(step / 20 for step in range(4, 20))


@dataclass(frozen=True)
class SmallerClip:
    """A clip that fits: how it is asked for, and the share of the pixels that is left."""

    words: str
    share: float
    plan: Plan


def smallest_change(work: Workload) -> str:
    """The sentence for the error."""
    plan, machine = work.plan, work.machine
    changes = [change.words for change in smaller_clips(work)]
    vram, ram = least_bytes(work)
    if machine.device == "cuda" and vram > (machine.vram_bytes or 0):
        lack = f"a GPU with {vram / 1e9:.1f} GB at least, and {machine.name} has {(machine.vram_bytes or 0) / 1e9:.1f}"
    else:
        lack = f"{ram / 1e9:.1f} GB of memory at least, and there are {machine.ram_bytes / 1e9:.1f}"
    other = "close other programs" if plan.model == "pocket" else "choose a smaller model, such as pocket"
    advice = f"what would fit: {', or '.join(changes)}" if changes else other
    return f"{plan.width}x{plan.height} with {plan.num_frames} frames of {plan.model} needs {lack}; {advice}"


def smaller_clips(work: Workload) -> list[SmallerClip]:
    """The nearest size and the nearest length that fit; the one that keeps more of the clip comes first."""
    found = [_largest(work, clips) for clips in (_shorter(work.plan, work), _narrower(work.plan, work))]
    return sorted((clip for clip in found if clip is not None), key=lambda clip: -clip.share)


def _largest(work: Workload, clips: Sequence[SmallerClip]) -> SmallerClip | None:
    """Of clips that grow the last one that fits."""
    count = bisect(clips, False, key=lambda clip: not _fits(work, clip.plan))
    return clips[count - 1] if count else None


def _shorter(plan: Plan, work: Workload) -> list[SmallerClip]:
    lengths = range(1, plan.num_frames, work.model.grid.frame_multiple)
    return [
        SmallerClip(
            f"{frames} frames ({frames / plan.fps:.1f} s)", frames / plan.num_frames, replace(plan, num_frames=frames)
        )
        for frames in lengths
    ]


def _narrower(plan: Plan, work: Workload) -> list[SmallerClip]:
    grid, found = work.model.grid, {}
    for scale in _SCALES:
        width = max(grid.width_multiple, round(plan.width * scale / grid.width_multiple) * grid.width_multiple)
        height = max(grid.height_multiple, round(plan.height * scale / grid.height_multiple) * grid.height_multiple)
        share = width * height / (plan.width * plan.height)
        if share < 1:
            found[share] = SmallerClip(f"{width}x{height}", share, replace(plan, width=width, height=height))
    return [found[share] for share in sorted(found)]


def _fits(work: Workload, plan: Plan) -> bool:
    shapes = work.model.shapes(width=plan.width, height=plan.height, num_frames=plan.num_frames, dtype=plan.dtype)
    other = replace(work, plan=replace(plan, num_tokens=shapes.num_tokens))
    return fit(other, Limits.of(other, now=False)) is not None
