"""The rates of this machine, measured: every figure is there, and stays what a plan can be made with."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from homereel.core.machine import Machine, Rates
from homereel.planning import calibrate
from homereel.planning.machine import probe_machine
from homereel.planning.rates import known_rates


@pytest.mark.slow
def test_every_rate_is_measured_in_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round is real, the start of a process included; what others make of several is their median."""
    found: list[Rates] = []
    one_round = calibrate._round

    def noting(machine: Machine, *, folder: Path) -> Rates:
        if not found:
            found.append(one_round(machine, folder=folder))
        return found[0]

    monkeypatch.setattr(calibrate, "_round", noting)
    rates = calibrate.measure_rates(probe_machine(), folder=tmp_path)
    assert rates.measured
    assert not found[0].measured
    for field in fields(Rates)[:-1]:
        assert getattr(rates, field.name) == getattr(found[0], field.name) > 0
    assert rates.start_seconds != known_rates(probe_machine()).start_seconds, "it was measured"
    assert not list(tmp_path.iterdir()), "nothing is left behind"
    assert Rates.read(dict(vars(rates))) == rates
