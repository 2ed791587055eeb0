"""What the ledger is told of a clip: like against like, nothing of a clip that was not made as planned."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from homereel.core.machine import Machine
from homereel.core.plan import Plan, Residency, Rung, StageCost
from homereel.core.result import Timing
from homereel.engine.clip import Clip
from homereel.engine.generate import generate
from homereel.engine.noted import note_run
from homereel.engine.session import Session
from homereel.engine.state import DenoiseState
from homereel.planning.costed import run_key
from homereel.planning.ledger import Ledger
from tests.passes.conftest import MACHINE, wish

STAGES = tuple(
    StageCost(name, seconds, vram_bytes=0, ram_bytes=10**9)
    for name, seconds in (("load", 9.0), ("text", 1.0), ("denoise", 4.0), ("decode", 2.0), ("write", 8.0))
)


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ledger:
    monkeypatch.setenv("HOMEREEL_HOME", str(tmp_path / "home"))
    return Ledger.open(tmp_path / "home")


@pytest.fixture
def costed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Clips get these stages, whatever a plan says."""
    plain = Clip.__init__

    def use(**fields: Any) -> None:
        def init(self: Clip, *args: Any, **kwargs: Any) -> None:
            plain(self, *args, **kwargs)
            self.plan = replace(self.plan, stages=STAGES, correction=2.0, peak_ram_bytes=10**9, **fields)

        monkeypatch.setattr(Clip, "__init__", init)

    return use


def _rows(ledger: Ledger) -> list[tuple[Any, ...]]:
    with sqlite3.connect(ledger.path) as database:
        rows = database.execute(
            "SELECT predicted_seconds, actual_seconds, predicted_ram_bytes, actual_ram_bytes FROM runs"
        ).fetchall()
    database.close()
    return rows


def test_a_clip_is_noted_without_loading_and_what_did_not_take_place(
    tiny_model_dir: Path, ledger: Ledger, costed: Callable[..., None]
) -> None:
    costed()
    states: list[DenoiseState] = []
    with Session() as session:
        made = generate(wish(tiny_model_dir), session=session, on_state=states.append)
        generate(wish(tiny_model_dir), session=session, resume=states[0])  # half a clip tells nothing
        ((told, took, ram_told, ram_took),) = _rows(ledger)
        assert ledger.correction(run_key(made.plan, session.machine)).num_runs == 1
    assert told == (1 + 4 + 2) / 2  # of the cost model itself, before it was corrected
    timing = made.timing
    assert took == pytest.approx(timing.text_seconds + timing.denoise_seconds + timing.decode_seconds, rel=0.2)
    assert ram_told == 10**9
    assert ram_took > 10**8


def test_a_clip_that_gave_something_up_is_not_noted(
    tiny_model_dir: Path, ledger: Ledger, costed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    costed(residency=Residency(resident_blocks=1), rungs=(Rung("none stays", {"resident_blocks": 0}),))
    encode, tried = Clip.encode, []

    def short(self: Clip) -> Any:
        tried.append(self.plan.rungs)
        if len(tried) == 1:
            raise MemoryError
        return encode(self)

    monkeypatch.setattr(Clip, "encode", short)
    with Session() as session:
        assert not generate(wish(tiny_model_dir), session=session).plan.rungs
    assert len(tried) == 2
    assert ledger.num_runs() == 0


def test_a_ledger_out_of_reach_is_no_reason_to_fail(
    tiny_model_dir: Path, costed: Callable[..., None], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    costed()
    with Session() as session:
        plan = Clip(wish(tiny_model_dir), run=_silent(), session=session).plan
    file = tmp_path / "a file"
    file.write_text("")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOMEREEL_HOME", str(file / "home"))
        note_run(plan, machine=MACHINE, took=Timing(denoise_seconds=3.0))
    assert "cannot be used" in caplog.text
    assert list(tmp_path.iterdir()) == [file]


def test_a_plan_without_costs_is_not_noted(tiny_model_dir: Path, ledger: Ledger) -> None:
    with Session() as session:
        plan: Plan = replace(Clip(wish(tiny_model_dir), run=_silent(), session=session).plan, stages=())
    machine: Machine = MACHINE
    note_run(plan, machine=machine, took=Timing(denoise_seconds=3.0))
    assert not ledger.path.exists()


def _silent() -> Any:
    from homereel.engine.run import Run

    return Run(on_progress=None, should_stop=None)
