"""Tells the ledger what a clip took, next to what its plan said, so that the next plan is better."""

from __future__ import annotations

import logging
from dataclasses import asdict

from homereel.core.environment import read_environment
from homereel.core.errors import StoreUnavailable
from homereel.core.machine import Machine
from homereel.core.plan import Plan
from homereel.core.result import Timing
from homereel.engine.memory import peak_bytes
from homereel.planning.costed import run_key
from homereel.planning.ledger import Figures, Ledger

log = logging.getLogger(__name__)


def note_run(plan: Plan, *, machine: Machine, took: Timing) -> None:
    """Of a clip that was made from its beginning, as planned. A ledger that cannot be written is no reason to fail.

    Loading does not count: a warm session has it behind it. Nor does a stage that has not taken place, such as
    writing a clip that is kept in memory.
    """
    spent = {name.removesuffix("_seconds"): seconds for name, seconds in asdict(took).items()}
    counted = [stage for stage in plan.stages if stage.name != "load" and spent.get(stage.name, 0) > 0]
    if not counted:
        return
    told = [stage.seconds for stage in counted if stage.seconds is not None]
    on_gpu = plan.device == "cuda"
    predicted = Figures(
        seconds=sum(told) / plan.correction if len(told) == len(counted) else None,
        vram_bytes=plan.peak_vram_bytes / plan.peak_correction or None,
        ram_bytes=plan.peak_ram_bytes / (1 if on_gpu else plan.peak_correction) or None,
    )
    actual = Figures(
        seconds=sum(spent[stage.name] for stage in counted),
        vram_bytes=peak_bytes("cuda") if on_gpu else None,
        ram_bytes=peak_bytes("cpu") or None,
    )
    try:
        Ledger.open(read_environment().home).record(run_key(plan, machine), predicted, actual)
    except StoreUnavailable as error:
        log.warning("%s", error)
