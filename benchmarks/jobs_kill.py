"""kill -9 on workers, each at a random step of a random job: all jobs must finish, none twice, and every clip must have
the frames of an undisturbed run.

Usage: python benchmarks/jobs_kill.py [--jobs 10] [--kills 20] [--model pocket] [--steps N] [--frames N] [--seed 0]
       [--forked] [--json FILE]
Each killed worker is followed by one that a launcher starts, which takes seconds to import the engine; with --forked by
one that is forked from a process that has it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from forked_workers import ForkedWorkers
from homereel.core.request import Request
from homereel.engine.generate import generate
from homereel.engine.session import Session
from homereel.jobs.blobs import JobFolder
from homereel.jobs.launcher import Launcher, LauncherSettings
from homereel.jobs.records import Job
from homereel.jobs.store import JobStore

PROMPTS = (
    *("a red ball bounces on a green floor", "a blue box spins", "a yellow star rolls", "a green ring slides"),
    *("a white ball falls on a red floor", "a red star spins", "a blue ring bounces on a white floor"),
)
LOOK_SECONDS = 0.05
# Nothing is frozen here: on a busy machine nobody is to be taken for that.
PATIENT = LauncherSettings(beat_seconds=0.1, lease_seconds=120, silent_seconds=600)


class Workers(Protocol):
    """Who works on the queue; `tend` is called all the time, and starts a dead one again."""

    def tend(self) -> None: ...

    def pid_of(self, worker: str) -> int | None: ...


class Launched:
    """The workers of a launcher, which looks after them by itself."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher

    def tend(self) -> None:
        if self._launcher.problem:
            raise SystemExit(self._launcher.problem)

    def pid_of(self, worker: str) -> int | None:
        return next((state.pid for state in self._launcher.workers() if state.name == worker), None)


@contextmanager
def _launched(data: Path) -> Iterator[Launched]:
    with Launcher(data, PATIENT) as launcher:
        yield Launched(launcher)


def kill_workers(
    store: JobStore,
    data: Path,
    *,
    requests: Sequence[Mapping[str, Any]],
    kills: int,
    workers: Workers,
    seed: int = 0,
    limit_seconds: float = 3_600,
) -> dict[str, Any]:
    """Submit the requests, kill while they are worked on, wait for all; the report as JSON would have it."""
    started = time.monotonic()
    jobs = [store.submit(request, max_attempts=kills + 1) for request in requests]
    targets, dead = _Targets(jobs, kills=kills, seed=seed), set[str]()
    while not all(store.get(job.id).is_over for job in jobs):
        if time.monotonic() - started > limit_seconds:
            break
        workers.tend()
        for held in store.leases():
            pid = workers.pid_of(held.worker)
            job = store.get(held.job_id)
            if pid is not None and held.worker not in dead and targets.are_reached(job):
                os.kill(pid, signal.SIGKILL)
                dead.add(held.worker)
                targets.struck(job)
        time.sleep(LOOK_SECONDS)
    return {
        "jobs": len(jobs),
        "kills": len(targets.struck_at),
        "killed_after_steps": targets.struck_at,
        **_outcome(store, data, jobs),
        "seconds": round(time.monotonic() - started, 1),
    }


class _Targets:
    """The steps at which each job's worker is to be killed. What a job escapes falls to it or to one behind it."""

    def __init__(self, jobs: Sequence[Job], *, kills: int, seed: int) -> None:
        self._random = random.Random(seed)
        self._order = [job.id for job in jobs]
        self._num_steps = {job.id: int(job.request["steps"]) for job in jobs}
        self._steps: dict[str, list[int]] = {job.id: [] for job in jobs}
        self.struck_at: list[int] = []  # steps
        self._spread(kills, first=0)

    def are_reached(self, job: Job) -> bool:
        """Whether the job's worker is to be killed now."""
        place = self._order.index(job.id)
        missed = [self._steps[earlier].pop() for earlier in self._order[:place] for _ in list(self._steps[earlier])]
        self._spread(len(missed), first=place)
        steps = self._steps[job.id]
        return bool(steps) and job.status == "running" and job.steps_done >= steps[0]

    def struck(self, job: Job) -> None:
        """It was."""
        self._steps[job.id].pop(0)
        self.struck_at.append(job.steps_done)

    def _spread(self, kills: int, *, first: int) -> None:
        for _ in range(kills):
            job_id = self._random.choice(self._order[first:])
            self._steps[job_id].append(self._random.randint(0, self._num_steps[job_id]))
            self._steps[job_id].sort()


def _outcome(store: JobStore, data: Path, jobs: Sequence[Job]) -> dict[str, int]:
    ended = [store.get(job.id) for job in jobs]
    completions = [event.job_id for event in store.events(limit=10_000) if event.kind == "completed"]
    logs = "".join(JobFolder(data, job.id).log.read_text() for job in ended)
    return {
        "finished": sum(job.status == "completed" for job in ended),
        "twice": sum(completions.count(job.id) > 1 for job in ended),
        "equal": _num_equal(data, ended),
        "resumed": logs.count("goes on after step"),
    }


def _num_equal(data: Path, jobs: Sequence[Job]) -> int:
    """How many have the frames of an undisturbed run in this process, and a whole file."""
    count = 0
    with Session() as session:
        for job in jobs:
            result = job.result or {}
            expected = generate(Request.parse(job.request), session=session).frames_sha256
            clip = JobFolder(data, job.id).clip
            whole = clip.exists() and hashlib.sha256(clip.read_bytes()).hexdigest() == result.get("sha256")
            count += whole and expected == result.get("frames_sha256")
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--frames", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--forked", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    common = {"model": options.model, "steps": options.steps}
    common |= {} if options.frames is None else {"num_frames": options.frames}
    requests = [{"prompt": PROMPTS[i % len(PROMPTS)], "seed": i, **common} for i in range(options.jobs)]
    with tempfile.TemporaryDirectory() as folder, JobStore.in_folder(Path(folder)) as store:
        data = Path(folder)
        tended: AbstractContextManager[Workers] = ForkedWorkers(store, data) if options.forked else _launched(data)
        with tended as workers:
            report = kill_workers(
                *(store, data), requests=requests, kills=options.kills, workers=workers, seed=options.seed
            )
    about = {"model": options.model, "steps": options.steps, "frames": options.frames, "forked": options.forked}
    text = json.dumps({**report, **about, "cores": os.cpu_count(), "load_average": os.getloadavg()}, indent=1)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
