"""States are saved often enough to lose little, seldom enough to cost little, and never lost when a stop is asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from homereel.core.errors import MediaError, UnwritableTarget
from homereel.engine.state import DenoiseState
from homereel.jobs.saved_state import SavedState, remove_leftovers
from homereel.sampling import SolverState

STATE = DenoiseState(SolverState(sample=torch.ones(2)), torch.zeros(4, dtype=torch.uint8), "clip")


class Clock:
    """Goes on by itself only while something is saved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def at(step: int) -> DenoiseState:
    return replace(STATE, solver=replace(STATE.solver, step=step))


@pytest.mark.parametrize("save_seconds", [0.0, 0.05, 1.0])
def test_saving_takes_two_percent_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_seconds: float
) -> None:
    clock, spent = Clock(), list[float]()

    def save(self: DenoiseState, path: Path) -> None:
        spent.append(save_seconds)
        clock.now += save_seconds

    monkeypatch.setattr(DenoiseState, "save", save)
    saved = SavedState(tmp_path / "state", say=print, clock=clock)
    for step in range(1, 2001):
        clock.now += 0.1
        saved.take(at(step))
    assert sum(spent) <= 0.02 * clock.now + save_seconds
    assert len(spent) >= min(2000, 0.015 * clock.now / save_seconds if save_seconds else 2000)


def test_the_last_state_is_kept_when_a_stop_is_asked(tmp_path: Path) -> None:
    clock = Clock()
    saved = SavedState(tmp_path / "state", say=print, clock=clock, share=1e-9)
    for step in (1, 2, 3):
        clock.now += 1e-12
        saved.take(at(step))
    clock.now = 0.0
    saved.keep()
    loaded = SavedState(tmp_path / "state", say=print).load()
    assert loaded is not None
    assert loaded.step == 3
    assert loaded.fingerprint == "clip"


def test_a_disk_without_room_is_told_of_once_and_the_older_state_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    saved = SavedState(tmp_path / "state", say=told.append, share=1.0)
    saved.take(at(1))

    def full(self: DenoiseState, path: Path) -> None:
        raise UnwritableTarget("no room")

    with monkeypatch.context() as patch:
        patch.setattr(DenoiseState, "save", full)
        for step in (2, 3):
            saved.take(at(step))
            saved.keep()
    assert len(told) == 1
    assert "no room" in told[0]
    loaded = saved.load()
    assert loaded is not None
    assert loaded.step == 1


@pytest.mark.parametrize("where", [0, 20, -1, -9])
def test_a_state_with_one_wrong_bit_is_never_used(tmp_path: Path, where: int) -> None:
    at(1).save(tmp_path / "state")
    content = bytearray((tmp_path / "state").read_bytes())
    content[where] ^= 4
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(MediaError, match="no saved state"):
        DenoiseState.load(tmp_path / "state")
    told: list[str] = []
    assert SavedState(tmp_path / "state", say=told.append).load() is None
    assert "started anew" in told[0]
    assert not list(tmp_path.iterdir())


def test_what_a_killed_save_left_is_removed(tmp_path: Path) -> None:
    at(1).save(tmp_path / "state")
    (tmp_path / ".state-x1y2").write_bytes(b"half")
    remove_leftovers(tmp_path / "state")
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
