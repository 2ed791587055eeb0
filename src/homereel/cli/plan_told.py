"""How a plan is told: tables and sentences for a person, one object for a program."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from homereel.cli.output import bytes_text, seconds_text, show_rows

if TYPE_CHECKING:
    from homereel.cli.planned import Planned
    from homereel.core.plan import Plan

_STAGES = {
    "load": "loading",
    "text": "reading the words",
    "denoise": "denoising",
    "decode": "decoding",
    "write": "writing",
}
# Watts at work: a GPU's by a word of its name, else that of a usual card; the machine around it; a thread.
_GPU_WATTS = (("H200", 650), ("H100", 600), ("B200", 900), ("A100", 350), ("5090", 500), ("4090", 400), ("3090", 330))
_USUAL_GPU_WATTS, _HOST_WATTS, _THREAD_WATTS = 220, 90, 12
_JOULES_A_KWH = 3.6e6


def plan_dict(found: Planned, *, price: float) -> dict[str, Any]:
    """For --json."""
    plan = found.plan
    energy = _kwh(found)
    return {
        "peak_vram_bytes": plan.peak_vram_bytes,
        "peak_ram_bytes": plan.peak_ram_bytes,
        "seconds": plan.seconds,
        "band": None if plan.band is None else list(plan.band),
        "stages": [asdict(stage) for stage in plan.stages],
        "settings": plan.as_dict(),
        "words": list(_words(plan)),
        "alternatives": [{"kind": each.kind, "how": each.how, **_short(each.plan)} for each in found.alternatives]
        + [
            {"kind": "other model", "how": f"--model {each.model}", "installed": each.installed, **_short(each.plan)}
            for each in found.others
        ],
        "download_bytes": None if found.card is None else found.card.download_bytes,
        "needs_download": found.card is not None,
        "kwh": energy,
        "money": None if energy is None else round(energy * price, 4),
        "machine": found.machine.as_dict(),
        "adjustments": list(plan.adjustments),
        "warnings": list(plan.warnings),
    }


def show_plan(found: Planned, *, price: float) -> None:
    """For a person."""
    plan, machine = found.plan, found.machine
    for note in (*plan.adjustments, *(f"warning: {warning}" for warning in plan.warnings)):
        print(note)
    print(
        f"{plan.model} on {machine.name}: {plan.width}x{plan.height}, {plan.num_frames} frames "
        f"({plan.clip_seconds:.2f} s), {plan.steps} steps\n"
    )
    print(f"{'stage':<20}{'time':>14}{'GPU':>12}{'memory':>12}")
    for stage in plan.stages:
        gpu = bytes_text(stage.vram_bytes) if stage.vram_bytes else "-"
        name = _STAGES[stage.name]
        print(f"{name:<20}{_time(stage.seconds):>14}{gpu:>12}{bytes_text(stage.ram_bytes):>12}")
    print()
    show_rows(_summary(found, price=price))
    rows = list(_choices(found))
    if rows:
        print("\nWhat else could be chosen:")
        show_rows(rows)


def _summary(found: Planned, *, price: float) -> Iterator[tuple[str, str]]:
    plan, machine = found.plan, found.machine
    band = "" if plan.band is None else f"; nine of ten runs: {_time(plan.band[0])} to {_time(plan.band[1])}"
    yield "in all", _time(plan.seconds) + band
    yield "peak", f"{bytes_text(plan.peak_vram_bytes)} of the GPU's memory" if plan.peak_vram_bytes else ""
    yield "" if plan.peak_vram_bytes else "peak", f"{bytes_text(plan.peak_ram_bytes)} of memory"
    yield "settings", "; ".join(_words(plan))
    if found.card is not None:
        size = bytes_text(found.card.download_bytes or 0)
        yield "download", f"{size} ({found.card.licence.name}): homereel models pull {found.card.id}"
    energy = _kwh(found)
    if energy is not None:
        yield "electricity", f"{energy:.3f} kWh, {energy * price:.2f} at {price:.2f} a kWh"
    if machine.rates is not None and not machine.rates.measured and not machine.limited:
        yield "note", "times are those of this kind of machine; homereel doctor --calibrate measures this one"


def _words(plan: Plan) -> Iterator[str]:
    """The chosen settings."""
    yield f"computes in {plan.dtype}"
    yield f"passes: {', '.join(plan.passes)} ({plan.exactness})" if plan.passes else "no passes (exact)"
    place = plan.residency
    if place is None:
        yield "everything lies where it computes"
        return
    if place.resident_blocks is not None:
        source = "the host's memory" if place.source == "memory" else "the disk"
        yield f"{place.resident_blocks} blocks stay on the GPU, the others come from {source}"
    if place.text_encoder == "cpu":
        yield "the words are read on the processor"
    if place.text_encoder == "cached":
        yield "the words were read before"
    if place.vae_tiles is not None:
        frames, height, width = place.vae_tiles
        yield f"decoded in tiles of {width}x{height} and {frames} frames"


def _choices(found: Planned) -> Iterator[tuple[str, str]]:
    for each in found.alternatives:
        yield each.kind, f"{each.how}: {_cost(each.plan)} ({each.plan.exactness})"
    for other in found.others:
        state = "" if other.installed else ", not here"
        yield "other model", f"--model {other.model}: {_cost(other.plan)}{state}"


def _cost(plan: Plan) -> str:
    where = "of the GPU" if plan.peak_vram_bytes else "of memory"
    return f"{_time(plan.seconds)}, {bytes_text(plan.peak_bytes)} {where}"


def _short(plan: Plan) -> dict[str, Any]:
    return {
        "model": plan.model,
        "seconds": plan.seconds,
        "peak_vram_bytes": plan.peak_vram_bytes,
        "peak_ram_bytes": plan.peak_ram_bytes,
        "passes": list(plan.passes),
        "exactness": plan.exactness,
    }


def _time(seconds: float | None) -> str:
    return "not known" if seconds is None else seconds_text(seconds)


def _kwh(found: Planned) -> float | None:
    seconds, machine = found.plan.seconds, found.machine
    if seconds is None:
        return None
    if machine.device == "cuda":
        named = (watts for word, watts in _GPU_WATTS if word in machine.name)
        power = next(named, _USUAL_GPU_WATTS) + _HOST_WATTS
    else:
        power = _HOST_WATTS + _THREAD_WATTS * machine.num_threads
    return round(seconds * power / _JOULES_A_KWH, 6)
