"""The worker's loop: which job comes next, what it does without one, and what does not end it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from homereel.core.errors import StoreUnavailable
from homereel.jobs import worker
from homereel.jobs.records import Job, Lease
from homereel.jobs.store import JobStore
from homereel.jobs.work import Workplace
from homereel.jobs.worker import run_worker
from tests.jobs.stand_in import NoModel, make


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    with JobStore.in_folder(tmp_path) as opened:
        yield opened


@pytest.fixture
def place(store: JobStore, tmp_path: Path) -> Workplace:
    return Workplace(store, tmp_path, warm=NoModel(), make=make, beat_seconds=0.05)


def submit(store: JobStore, prompt: str, *, model: str = "stand-in") -> Job:
    return store.submit({"prompt": prompt, "seed": 1}, model=model)


def run_until_idle(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run a worker until nothing is queued; the prompts in the order in which they were claimed."""
    claimed: list[str] = []
    leaving = threading.Event()
    claim = JobStore.claim

    def watched(self: JobStore, *given: Any, **named: Any) -> Lease | None:
        lease = claim(self, *given, **named)
        claimed.append(lease.job.request["prompt"]) if lease is not None else leaving.set()
        return lease

    monkeypatch.setattr(JobStore, "claim", watched)
    run_worker(place, name="one", leaving=leaving)
    return claimed


def test_jobs_of_the_loaded_model_come_first(
    place: Workplace, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for prompt, model in (("a", "one"), ("b", "two"), ("c", "one"), ("d", "two")):
        submit(store, prompt, model=model)
    assert run_until_idle(place, monkeypatch) == ["a", "c", "b", "d"]
    assert store.counts()["completed"] == 4


def test_a_job_that_fails_does_not_stop_the_queue(
    place: Workplace, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for prompt in ("fall", "fine"):
        submit(store, prompt)
    assert sorted(run_until_idle(place, monkeypatch)) == ["fall", "fall", "fall", "fine"]
    assert (store.counts()["completed"], store.counts()["failed"]) == (1, 1)


def test_a_model_that_is_not_used_is_freed(place: Workplace) -> None:
    leaving = threading.Event()

    class Idle(NoModel):
        is_loaded = True

        def free(self) -> None:
            leaving.set()

    run_worker(replace(place, warm=Idle()), name="one", leaving=leaving, idle_seconds=0.0)
    assert leaving.is_set()


def test_a_store_that_cannot_be_used_for_a_while_ends_no_worker(
    place: Workplace, store: JobStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(worker, "_BROKEN_SECONDS", 0.01)
    claim, times = JobStore.claim, list[int]()

    def locked(self: JobStore, *given: Any, **named: Any) -> Lease | None:
        times.append(1)
        if len(times) < 3:
            raise StoreUnavailable("locked by another program")
        return claim(self, *given, **named)

    monkeypatch.setattr(JobStore, "claim", locked)
    submit(store, "fine")
    run_until_idle(place, monkeypatch)
    assert store.counts()["completed"] == 1
    assert "locked by another program" in capsys.readouterr().err


def test_a_job_is_given_back_when_the_worker_leaves(place: Workplace, store: JobStore) -> None:
    leaving, job = threading.Event(), store.submit({"prompt": "slow", "steps": 1000})
    timer = threading.Timer(0.3, leaving.set)
    timer.start()
    run_worker(place, name="one", leaving=leaving)
    timer.join()
    now = store.get(job.id)
    assert (now.status, now.attempts) == ("queued", 0)


def test_a_damaged_store_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "jobs.sqlite3").write_bytes(b"nonsense" * 1000)
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        assert worker.main(["--data", str(tmp_path), "--name", "one"]) == 1
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(number, handler)
    assert capsys.readouterr().err.startswith("one: ")


def test_the_heart_beats_during_long_steps(place: Workplace, store: JobStore) -> None:
    """A step of many beats: the lease is renewed meanwhile, and what the user wants is heard."""
    beats: list[int] = []

    def long_step(*given: Any, **named: Any) -> Any:
        for _ in range(2):
            beats.append(store.leases()[0].beat)
            time.sleep(0.3)
        return make(*given, **named)

    submit(store, "fine")
    lease = store.claim("one")
    assert lease is not None
    replace(place, make=long_step).work(lease)
    assert beats[1] >= beats[0] + 2
