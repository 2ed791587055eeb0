"""Workers with the real engine are killed at random steps; benchmarks/jobs_kill.py does it more often, with pocket."""

from __future__ import annotations

from pathlib import Path

import pytest

from forked_workers import ForkedWorkers
from homereel.jobs.store import JobStore
from jobs_kill import kill_workers

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_26_jobs_of_killed_workers_go_on_and_end_once_with_the_same_bits(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'src'}")
    common = {"prompt": "a red ball falls", "model": str(tiny_model_dir), "steps": 10}
    requests = [{**common, "seed": seed} for seed in range(2)]
    with JobStore.in_folder(tmp_path) as store, ForkedWorkers(store, tmp_path) as workers:
        report = kill_workers(store, tmp_path, requests=requests, kills=3, workers=workers, limit_seconds=240)
    told = {name: report[name] for name in ("jobs", "kills", "finished", "twice", "equal")}
    assert told == {"jobs": 2, "kills": 3, "finished": 2, "twice": 0, "equal": 2}
    assert len(report["killed_after_steps"]) == 3
    assert report["resumed"] >= 1
