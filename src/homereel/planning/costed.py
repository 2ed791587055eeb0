"""A settled plan with its way to fit into the machine, its stages' cost, and the ledger's correction.

Raises DoesNotFit at once where nothing would help, with the smallest change that would.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from homereel.core.errors import DoesNotFit, StoreUnavailable
from homereel.core.machine import Machine
from homereel.core.plan import Plan, Residency, StageCost
from homereel.core.protocols import ModelFacts
from homereel.planning.cost import Workload, total_seconds
from homereel.planning.fitting import Fit, Limits, fit, tile_overhead
from homereel.planning.ledger import Correction, Ledger, RunKey, size_class
from homereel.planning.memory import keeps_all
from homereel.planning.smaller import smallest_change
from homereel.planning.words import Reader

# Nine of ten runs lie within, while nothing was learnt: rates that were measured here, and rates of a table.
_MEASURED_BAND, _TABLE_BAND = (0.75, 1.33), (0.4, 2.5)


def with_costs(
    plan: Plan,
    *,
    model: ModelFacts,
    machine: Machine,
    ledger: Ledger | None = None,
    read: frozenset[Reader] = frozenset(),
) -> Plan:
    """The plan with residency, rungs, stages, seconds, band and peaks; its passes must be settled. `read` tells by whom
    its words were read before.

    Raises DoesNotFit if the machine has not the memory, whatever else runs on it. What another program holds at the
    moment is told in a warning.
    """
    plan, factor = _peak_factor(plan, machine=machine, ledger=ledger)
    work = Workload.of(plan, model=model, machine=machine, keeps_all=keeps_all(model, machine=machine), read=read)
    counted = work if factor == 1 else replace(work, peak_factor=factor)
    found, told = _fit(counted)
    if found is None and factor > 1:  # a clip is not refused because others took more than was told
        found, told = _fit(work)
        told = (
            *told,
            f"earlier clips took {factor:.2g} times the memory that is counted; it may not be enough for this",
        )
    if found is None:
        raise DoesNotFit(smallest_change(work), field="size")
    on_gpu = machine.device == "cuda"
    stages = tuple(
        replace(stage, seconds=_with_tiles(stage.seconds, found.residency, work)) if stage.name == "decode" else stage
        for stage in with_peaks(found.stages, factor=factor, on_gpu=on_gpu)
    )
    vram, ram = max(stage.vram_bytes for stage in stages), max(stage.ram_bytes for stage in stages)
    return _corrected(
        replace(
            plan,
            peak_bytes=vram if on_gpu else ram,
            peak_ram_bytes=ram,
            peak_correction=factor,
            seconds=total_seconds(stages),
            residency=None if found.residency == Residency() else found.residency,
            rungs=found.rungs,
            stages=stages,
            warnings=(*plan.warnings, *told),
        ),
        machine=machine,
        ledger=ledger,
    )


def with_peaks(stages: Sequence[StageCost], *, factor: float, on_gpu: bool) -> tuple[StageCost, ...]:
    """The stages with so many times more of the memory that computes."""
    return tuple(
        replace(each, vram_bytes=round(each.vram_bytes * factor))
        if on_gpu
        else replace(each, ram_bytes=round(each.ram_bytes * factor))
        for each in stages
    )


def run_key(plan: Plan, machine: Machine) -> RunKey:
    """By which runs like this one are found in the ledger."""
    return RunKey(
        model=plan.model,
        machine=f"{machine.device}, {machine.name}, {machine.num_threads} threads",
        size_class=size_class(plan.num_tokens, plan.num_frames),
        passes=",".join(plan.passes) or "none",
    )


def _peak_factor(plan: Plan, *, machine: Machine, ledger: Ledger | None) -> tuple[Plan, float]:
    """Of the memory that computes. Beside a GPU the host's is left as it is counted: what a process holds there has
    pages of mapped files in it, which the system drops when others need the room.
    """
    if ledger is None:
        return plan, 1.0
    try:
        factor = ledger.peak_factor(run_key(plan, machine), "vram_bytes" if machine.device == "cuda" else "ram_bytes")
    except StoreUnavailable as error:
        return replace(plan, warnings=tuple(dict.fromkeys((*plan.warnings, str(error))))), 1.0
    return plan, factor


def _fit(work: Workload) -> tuple[Fit | None, tuple[str, ...]]:
    """Into what is free; else into what there is, with a warning."""
    found = fit(work, Limits.of(work, now=True))
    if found is not None:
        return found, ()
    found = fit(work, Limits.of(work, now=False))
    if found is None:
        return None, ()
    machine = work.machine
    free, need, where = machine.ram_room_bytes, found.ram_bytes, "memory"
    if machine.device == "cuda" and (machine.vram_room_bytes or 0) < (machine.vram_bytes or 0) and need <= free:
        free, need, where = machine.vram_room_bytes or 0, found.vram_bytes, f"memory of {machine.name}"
    return found, (f"other programs hold much of the {where}: {need / 1e9:.1f} GB are needed, {free / 1e9:.1f} free",)


def _with_tiles(seconds: float | None, residency: Residency, work: Workload) -> float | None:
    if seconds is None:
        return None
    size = (work.plan.num_frames, work.plan.height, work.plan.width)
    return seconds * tile_overhead(residency.vae_tiles, size=size, frame_scale=work.model.grid.frame_multiple)


def _corrected(plan: Plan, *, machine: Machine, ledger: Ledger | None) -> Plan:
    """As the runs before were told and took; without any, the band is that of the rates."""
    if plan.seconds is None or machine.rates is None:
        return plan
    low, high = _MEASURED_BAND if machine.rates.measured else _TABLE_BAND
    learnt = Correction(1.0, low, high)
    if ledger is not None:
        try:
            known = ledger.correction(run_key(plan, machine))
        except StoreUnavailable as error:
            plan = replace(plan, warnings=tuple(dict.fromkeys((*plan.warnings, str(error)))))
        else:
            learnt = known if known.num_runs else learnt
    if plan.seconds is None or not math.isfinite(learnt.factor):
        return plan
    # The ledger knows of no loading: a warm session has it behind it.
    loading = next((stage.seconds or 0.0 for stage in plan.stages if stage.name == "load"), 0.0)
    seconds, least, most = (loading + value for value in learnt.scaled(plan.seconds - loading))
    stages = tuple(
        stage
        if stage.seconds is None or stage.name == "load"
        else replace(stage, seconds=stage.seconds * learnt.factor)
        for stage in plan.stages
    )
    return replace(plan, seconds=seconds, band=(least, most), correction=learnt.factor, stages=stages)
