"""Plans from another process: what it answers, what becomes of its death, and that it never outlives who started it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from homereel.core.errors import DoesNotFit, HomereelError
from homereel.core.request import Request
from homereel.server.planning_process import PlanningProcess
from tests.server.running import wait_for
from tests.server.stand_in_plans import PLAN

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 300.0


def command(idle_seconds: float = 600.0) -> list[str]:
    return [sys.executable, "-m", "tests.server.stand_in_plans", str(idle_seconds)]


def wish(prompt: str) -> Request:
    return Request.parse({"prompt": prompt})


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> Iterator[PlanningProcess]:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'src'}")
    with closing(PlanningProcess(command=command())) as opened:
        yield opened


def test_answers_come_back_as_what_they_are_and_a_death_costs_one_more_try(
    plans: PlanningProcess, tmp_path: Path
) -> None:
    plans.ready()
    first = plans.pid
    assert first is not None
    if sys.platform != "win32":
        assert os.getpgid(first) != os.getpgid(0)  # a Ctrl-C in the terminal is not for it
    assert plans.plan(wish("a ball")) == PLAN
    with pytest.raises(DoesNotFit, match=r"^it is too large$") as refused:
        plans.plan(wish("large"))
    assert refused.value.field == "size"
    with pytest.raises(RuntimeError, match="KeyError: 'an oversight'"):
        plans.plan(wish("bug"))
    assert plans.pid == first
    assert plans.plan(wish(f"die {tmp_path / 'died'}")) == PLAN
    assert plans.pid != first


@pytest.mark.skipif(sys.platform == "win32", reason="a signal is told of")
def test_what_kills_it_each_time_is_told_and_the_next_is_planned(plans: PlanningProcess) -> None:
    with pytest.raises(HomereelError, match="the process for plans crashed with SIGABRT; it was tried 2 times"):
        plans.plan(wish("die"))
    assert plans.plan(wish("a ball")) == PLAN


def test_one_that_idles_ends_and_another_takes_its_place(plans: PlanningProcess) -> None:
    with closing(PlanningProcess(command=command(0.05))) as idle:
        idle.ready()
        first = idle.pid
        assert first is not None
        wait_for(lambda: not lives(first), seconds=PATIENCE_SECONDS)
        assert idle.plan(wish("a ball")) == PLAN
        assert idle.pid != first


def test_closing_breaks_a_plan_off(plans: PlanningProcess, tmp_path: Path) -> None:
    told: list[str] = []

    def ask() -> None:
        try:
            plans.plan(wish(f"think {tmp_path / 'pid'}"))
        except HomereelError as error:
            told.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    pid = thinker(tmp_path / "pid", also=asking.is_alive)
    plans.close()
    asking.join(PATIENCE_SECONDS)
    assert ["the server is ending" in line for line in told] == [True]
    assert not lives(pid)
    with pytest.raises(HomereelError, match="nothing is planned any more"):
        plans.ready()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_kill_9_of_who_started_it_ends_it_in_the_middle_of_a_plan(plans: PlanningProcess, tmp_path: Path) -> None:
    """`plans` is for the surroundings alone."""
    script = (
        "import sys; from homereel.core.request import Request; "
        "from homereel.server.planning_process import PlanningProcess; "
        f"PlanningProcess(command={command()!r}).plan(Request.parse({{'prompt': sys.argv[1]}}))"
    )
    words = [sys.executable, "-c", script, f"think {tmp_path / 'pid'}"]
    with subprocess.Popen(words) as server:
        pid = thinker(tmp_path / "pid", also=lambda: server.poll() is None)
        server.kill()
    wait_for(lambda: not lives(pid), seconds=PATIENCE_SECONDS)


def thinker(file: Path, *, also: Callable[[], bool]) -> int:
    """The id of the child, once it is at a plan that would take ten minutes."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not (file.exists() and file.read_text()):
        assert also(), "nobody plans any more"
        assert time.monotonic() < until
        time.sleep(0.02)
    return int(file.read_text())


def lives(pid: int) -> bool:
    """Whether a process is there, and not only waits to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
