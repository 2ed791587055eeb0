"""Workers are real processes here, with a stand-in for the engine; what befalls them is real, too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from homereel.jobs import worker_slot
from homereel.jobs.launcher import Launcher, LauncherSettings
from homereel.jobs.records import Job
from homereel.jobs.store import JobStore

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 300.0  # what a worker takes to start where many others want the processor, several times over

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are sent")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobStore]:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'src'}")
    monkeypatch.setattr(worker_slot, "_FIRST_PAUSE_SECONDS", 0.02)
    with JobStore.in_folder(tmp_path) as opened:
        yield opened


def stand_in(data: Path) -> Callable[[str], list[str]]:
    """The command of a worker that needs no torch."""
    return lambda name: [sys.executable, "-m", "tests.jobs.stand_in_worker", str(data), name, str(os.getpid())]


def launch(data: Path, *, lease_seconds: float = 20.0, count: int = 1) -> Launcher:
    return Launcher(data, LauncherSettings(count=count, lease_seconds=lease_seconds, command=stand_in(data)))


def wait_until(is_so: Callable[[], object], *, seconds: float = PATIENCE_SECONDS) -> float:
    """Look often until it is so; how long that took."""
    started = time.monotonic()
    while not is_so():
        assert time.monotonic() - started < seconds, "it never came to that"
        time.sleep(0.05)
    return time.monotonic() - started


def submit(store: JobStore, prompt: str, *, steps: int = 3) -> Job:
    return store.submit({"prompt": prompt, "seed": 1, "steps": steps})


def lives(pid: int) -> bool:
    """Whether a process is there, and not only waits to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_31_a_stopped_worker_is_killed_and_its_job_given_to_another(store: JobStore, tmp_path: Path) -> None:
    job = submit(store, "slow", steps=40)
    with launch(tmp_path, lease_seconds=2.0) as launcher:
        wait_until(lambda: store.get(job.id).steps_done >= 2)
        first = launcher.workers()[0]
        assert first.pid is not None
        os.kill(first.pid, signal.SIGSTOP)
        waited = wait_until(lambda: store.get(job.id).status == "queued" or store.get(job.id).attempts == 1)
        assert waited < 30  # 2 s, and what a busy machine adds; the silence of the pipe would tell after 60
        wait_until(lambda: store.get(job.id).is_over)
        assert not lives(first.pid)
    ended = store.get(job.id)
    assert ended.status == "completed"
    assert launcher.workers()[0].num_starts >= 2
    assert [event.kind for event in store.events()].count("completed") == 1


def test_29_and_37_a_job_that_kills_its_workers_fails_with_its_cause_and_the_queue_goes_on(
    store: JobStore, tmp_path: Path
) -> None:
    deadly, fine = submit(store, "die"), submit(store, "fine")
    with launch(tmp_path) as launcher:
        wait_until(lambda: store.get(fine.id).is_over and store.get(deadly.id).is_over)
        assert launcher.problem is None
        assert launcher.workers()[0].num_starts == 4
    assert store.get(fine.id).status == "completed"
    ended = store.get(deadly.id)
    assert ended.status == "failed"
    assert ended.error is not None
    assert "SIGKILL" in ended.error.message
    assert "memory" in ended.error.message
    assert "3 times" in ended.error.message


@pytest.mark.parametrize(
    ("program", "words"),
    [("import sys; sys.exit('no such GPU')", "no such GPU"), ("import time; time.sleep(60)", "frozen")],
)
def test_a_worker_that_never_comes_up_is_given_up_with_its_last_words(
    store: JobStore, tmp_path: Path, program: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_slot, "MAX_FAILURES", 3)
    settings = LauncherSettings(
        lease_seconds=0.5,
        silent_seconds=0.3 if words == "frozen" else 60.0,
        command=lambda _name: [sys.executable, "-c", program],
    )
    with Launcher(tmp_path, settings) as launcher:
        wait_until(lambda: launcher.problem)
        assert launcher.problem is not None
        assert words in launcher.problem
        assert "worker-0.log" in launcher.problem
        assert (launcher.workers()[0].status, launcher.workers()[0].num_starts) == ("given up", 3)


def test_pauses_grow_from_failure_to_failure(store: JobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_slot, "_FIRST_PAUSE_SECONDS", 1.0)
    slot = worker_slot.Slot(
        *(0,), store=store, command=lambda _name: ["/no/such/program"], log=tmp_path / "log", device=None,
        silent_seconds=60,
    )  # fmt: skip
    started, now = [], time.monotonic()
    for _ in range(200):
        before = slot.state().num_starts
        slot.look(now)
        started += [now] if slot.state().num_starts > before else []
        now += 0.5
    pauses = [later - earlier for earlier, later in pairwise(started)]
    assert [round(pause) for pause in pauses] == [1, 2, 4, 8]
    assert slot.state().status == "given up"


def test_stopping_gives_the_job_back_at_once(store: JobStore, tmp_path: Path) -> None:
    job = submit(store, "slow", steps=1000)
    with launch(tmp_path) as launcher:
        wait_until(lambda: store.get(job.id).steps_done >= 2)
        pid = launcher.workers()[0].pid
    now = store.get(job.id)
    assert (now.status, now.attempts) == ("queued", 0)
    assert pid is not None
    assert not lives(pid)
    assert launcher.workers()[0].status == "stopped"


_LAUNCHER = """
import sys, time
from itertools import pairwise
from pathlib import Path
from tests.jobs.test_launcher import launch
launcher = launch(Path(sys.argv[1]), count=2)
launcher.start()
while not all(state.pid for state in launcher.workers()): time.sleep(0.01)
print(*(state.pid for state in launcher.workers()), flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="elsewhere the pipe ends them, unless they are stopped"
)
def test_workers_end_with_their_launcher_even_if_it_is_killed(store: JobStore, tmp_path: Path) -> None:
    """Also one that is stopped, and one in the midst of a job."""
    job = submit(store, "slow", steps=1000)
    launcher = subprocess.Popen(
        [sys.executable, "-c", _LAUNCHER, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    assert launcher.stdout is not None
    pids = [int(word) for word in launcher.stdout.readline().split()]
    wait_until(lambda: store.get(job.id).steps_done >= 2)
    wait_until(lambda: all(b"stand_in" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids))
    worker = store.leases()[0].worker
    busy, idle = pids if worker.startswith("worker-0") else reversed(pids)
    os.kill(busy, signal.SIGSTOP)
    launcher.kill()
    launcher.communicate()
    wait_until(lambda: not lives(busy))
    wait_until(lambda: not lives(idle))
    assert store.get(job.id).status == "running"  # whoever watches next takes it back
