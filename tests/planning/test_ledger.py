"""The ledger: what is learnt from runs, what one astray changes, many writers at once, files that are no ledger."""

from __future__ import annotations

import math
import random
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from homereel.core.errors import StoreUnavailable
from homereel.planning import ledger as ledger_module
from homereel.planning.ledger import (
    KEPT_A_KEY,
    Correction,
    Figures,
    Ledger,
    RunKey,
    correction_of,
    peak_factor_of,
    size_class,
)

KEY = RunKey(model="pocket", machine="a processor, 2 threads", size_class=size_class(300, 17), passes="")


def note(ledger: Ledger, *ratios: float, key: RunKey = KEY) -> None:
    for ratio in ratios:
        ledger.record(key, Figures(seconds=10.0, ram_bytes=1e9), Figures(seconds=10.0 * ratio, ram_bytes=2e9))


def test_nothing_is_known_and_nothing_is_made(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "home")
    found = ledger.correction(KEY)
    assert (found.factor, found.num_runs) == (1.0, 0)
    assert found.low == pytest.approx(1 / 1.25, abs=0.01)
    assert found.high == pytest.approx(1.25, abs=0.01)
    assert not (tmp_path / "home").exists()


def test_ten_runs_bring_a_plan_within_fifteen_percent(tmp_path: Path) -> None:
    """A cost model that is off by 60%, on a machine whose runs vary by 5%."""
    ledger, dice = Ledger.open(tmp_path), random.Random(7)
    note(ledger, *(1.6 * math.exp(dice.gauss(0, 0.05)) for _ in range(10)))
    found = ledger.correction(KEY)
    told, low, high = found.scaled(10.0)
    runs = [10 * 1.6 * math.exp(dice.gauss(0, 0.05)) for _ in range(200)]
    errors = sorted(abs(run - told) / run for run in runs)
    assert errors[180] <= 0.15
    assert sum(low <= run <= high for run in runs) >= 180
    assert high / low < 1.5


def test_each_measure_has_its_own_correction(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    note(ledger, *[0.5] * 9)
    assert ledger.correction(KEY).factor == pytest.approx(0.5**0.9)
    assert ledger.correction(KEY, "ram_bytes").factor == pytest.approx(2**0.9)
    assert ledger.correction(KEY, "vram_bytes") == Ledger.open(tmp_path / "other").correction(KEY)


def test_one_run_astray_is_hardly_believed() -> None:
    steady = correction_of([1.2] * 8, spread=0.136)
    astray = correction_of([*[1.2] * 8, 1e9], spread=0.136)
    assert astray.factor == pytest.approx(steady.factor, rel=0.01)
    assert astray.high / astray.low == pytest.approx(steady.high / steady.low, rel=0.05)
    alone = correction_of([1e9], spread=0.136)
    assert alone.factor == pytest.approx(math.sqrt(ledger_module.LARGEST_RATIO))


@pytest.mark.parametrize(
    ("ratios", "factor"),
    [
        ((), 1.0),
        ((1.4,), 1.0),  # one run tells nothing
        ((1.4, 1.0), 1.0),
        ((1.4, 1.3), 1.3),  # two agree
        ((1.0, 1.1, 1.1, 9.0), 1.1),  # one odd run does nothing
        ((0.7, 0.7, 1.2), 1.0),
        ((1e9, 1e9), ledger_module.LARGEST_PEAK_RATIO),
        ((0.8, 0.6), 0.8 ** (2 / 3)),  # downwards no further than the highest, and slowly
        ((0.8,) * 30, 0.8 ** (30 / 31)),
        ((1e-9,) * 1000, (1 / ledger_module.LARGEST_PEAK_RATIO) ** (1000 / 1001)),
    ],
)
def test_a_peak_is_raised_when_two_runs_agree_and_never_told_below_what_was_measured(
    ratios: tuple[float, ...], factor: float
) -> None:
    assert peak_factor_of(ratios) == pytest.approx(factor)
    within = [ratio for ratio in ratios if ratio <= ledger_module.LARGEST_PEAK_RATIO]
    assert all(ratio <= factor for ratio in sorted(within)[:-1])


def test_peaks_are_learnt_from_runs_of_any_size_of_one_model(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "home")
    assert ledger.peak_factor(KEY, "ram_bytes") == 1
    assert not (tmp_path / "home").exists()
    note(ledger, 1, 1)  # of twice the memory
    larger = replace(KEY, size_class=size_class(9000, 81))
    assert ledger.peak_factor(larger, "ram_bytes") == 2
    assert ledger.peak_factor(KEY, "vram_bytes") == 1
    for other in (replace(KEY, passes="int8"), replace(KEY, model="other"), replace(KEY, machine="another")):
        assert ledger.peak_factor(other, "ram_bytes") == 1


def test_the_nearest_relatives_tell_and_the_band_is_wider(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    note(ledger, 2, 2, 2)
    own = ledger.correction(KEY)

    def band(found: Correction) -> float:
        return found.high / found.low

    larger, other = replace(KEY, size_class=size_class(9000, 81)), replace(KEY, model="wan-2.1-1.3b")
    widths = [band(own), band(ledger.correction(larger)), band(ledger.correction(other))]
    assert widths == sorted(set(widths))
    assert ledger.correction(other).factor == pytest.approx(own.factor)
    note(ledger, 1, 1, key=larger)
    assert ledger.correction(larger).factor == 1
    assert ledger.correction(replace(KEY, machine="another")).num_runs == 0


def test_it_never_grows_and_the_last_runs_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "KEPT_A_KEY", 5)
    monkeypatch.setattr(ledger_module, "KEPT", 8)
    ledger = Ledger.open(tmp_path)
    note(ledger, *[4.0] * 7, *[1.0] * 5)
    assert ledger.num_runs() == 5 < KEPT_A_KEY
    assert ledger.correction(KEY).factor == 1
    for index in range(6):
        note(ledger, 1.0, key=replace(KEY, model=f"model {index}"))
    assert ledger.num_runs() == 8


def test_runs_without_figures_tell_nothing(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    ledger.record(KEY, Figures(), Figures(seconds=3.0))
    ledger.record(KEY, Figures(seconds=0.0), Figures(seconds=3.0))
    assert ledger.correction(KEY).num_runs == 0
    assert ledger.num_runs() == 2


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from homereel.planning.ledger import *\n"
        "key = RunKey('pocket', 'a', 'b', sys.argv[2])\n"
        "for _ in range(20): Ledger.open(Path(sys.argv[1])).record(key, Figures(seconds=1.0), Figures(seconds=2.0))"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(index)]) for index in range(3)]
    assert [each.wait(timeout=60) for each in running] == [0, 0, 0]
    assert Ledger.open(tmp_path).num_runs() == 60
    assert Ledger.open(tmp_path).correction(RunKey("pocket", "a", "b", "1")).num_runs == 20


@pytest.mark.parametrize("content", [b"no database at all " * 50, b"SQLite format 3\0" + b"\x07" * 4096])
def test_a_file_that_is_no_ledger_is_set_aside(tmp_path: Path, content: bytes) -> None:
    ledger = Ledger.open(tmp_path)
    ledger.path.write_bytes(content)
    assert ledger.correction(KEY).num_runs == 0
    assert ledger.path.with_name("ledger.sqlite3.damaged").read_bytes() == content
    note(ledger, 2.0)
    assert ledger.num_runs() == 1


def test_another_programs_tables_are_not_ours(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    with sqlite3.connect(ledger.path) as database:
        database.execute("CREATE TABLE runs (a INTEGER)")
    database.close()
    note(ledger, 2.0)
    assert ledger.num_runs() == 1


def test_a_ledger_that_is_locked_or_out_of_reach_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "PATIENCE_SECONDS", 0.01)
    ledger = Ledger.open(tmp_path)
    note(ledger, 2.0)
    other = sqlite3.connect(ledger.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="is locked; plans go on without it"):
        note(ledger, 2.0)
    assert ledger.correction(KEY).num_runs == 1  # reading waits for nobody
    other.close()
    note(ledger, 2.0)
    file = tmp_path / "a file"
    file.write_text("")
    with pytest.raises(StoreUnavailable, match="cannot be used"):
        note(Ledger.open(file), 2.0)
