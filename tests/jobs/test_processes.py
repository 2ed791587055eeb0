"""Real processes on one store: none claims twice, and a kill -9 anywhere leaves it whole."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TextIO

from sqlalchemy import make_url

from homereel.jobs.database import Database
from homereel.jobs.store import JobStore
from tests.jobs.conftest import REQUEST, Spawn

CLAIMER = """
import sys
from homereel.jobs.store import JobStore
with JobStore.open(sys.argv[1]) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    while (lease := store.claim(sys.argv[2])) is not None:
        store.renew(lease, steps_done=1)
        print(lease.job.id, store.complete(lease, {}).status, flush=True)
"""

NUM_SUBMITTERS = 3
SUBMITTER = f"""
import os, sys, threading
from homereel.jobs.store import JobStore
def submit():
    while True:
        os.write(1, store.submit({{"prompt": "a ball"}}).id.encode() + b"\\n")
store = JobStore.open(sys.argv[1])
for _ in range({NUM_SUBMITTERS}): threading.Thread(target=submit).start()
"""

PUBLISHER = """
import sys
from homereel.jobs.store import JobStore
def stand_still():
    print("inside", flush=True)
    sys.stdin.readline()
with JobStore.open(sys.argv[1]) as store:
    store.complete(store.claim("w"), {"file": "half.mp4"}, publish=stand_still)
"""


def test_several_claimers_and_none_claims_twice(url: str, spawn: Spawn) -> None:
    """They also make the database together, for it is not there yet when they start."""
    claimers = [spawn(CLAIMER, url, f"w{index}") for index in range(3)]
    assert [line(claimer) for claimer in claimers] == ["ready"] * 3
    with JobStore.open(url) as store:
        made = [store.submit(REQUEST).id for _ in range(24)]
        ended = [claimer.communicate("go\n", timeout=120)[0] for claimer in go_together(claimers)]
        rows = [row.split() for out in ended for row in out.splitlines()]
        assert sorted(row[0] for row in rows) == sorted(made)
        assert {row[1] for row in rows} == {"completed"}
        assert store.counts()["completed"] == 24
        kinds = [event.kind for event in store.events()]
        assert kinds.count("started") == kinds.count("completed") == 24


def test_case_27_every_acknowledged_job_survives_a_kill(url: str, spawn: Spawn) -> None:
    told: list[str] = []
    for count in (1, 9):
        submitter = spawn(SUBMITTER, url)
        told += [line(submitter) for _ in range(count)]
        kill(submitter)
        told += output(submitter).read().split()
    with JobStore.open(url) as store:
        kept = {job.id for job in store.list(limit=10_000).jobs}
        assert set(told) <= kept
        assert len(kept) <= len(told) + 2 * NUM_SUBMITTERS  # so many may have been written and not told
        assert {event.job_id for event in store.events(limit=10_000)} == kept
        assert store.submit(REQUEST).status == "queued"
    check_whole(url)


def test_a_kill_in_the_middle_of_a_transaction_leaves_nothing_of_it(url: str, spawn: Spawn) -> None:
    with JobStore.open(url) as store:
        job = store.submit(REQUEST)
        publisher = spawn(PUBLISHER, url)
        assert line(publisher) == "inside"
        assert store.get(job.id).status == "running"  # readers need not wait
        kill(publisher)
        there = store.get(job.id)
        assert (there.status, there.result) == ("running", None)
        held = store.leases()[0]
        assert store.revoke(job.id, held.token, reason="killed")
        assert store.get(job.id).status == "queued"
    check_whole(url)


def test_case_31_a_frozen_writer_delays_only_writers_until_it_is_killed(url: str, spawn: Spawn) -> None:
    with JobStore.open(url, patience_seconds=60) as store:
        job = store.submit(REQUEST)
        publisher = spawn(PUBLISHER, url)
        assert line(publisher) == "inside"
        publisher.send_signal(signal.SIGSTOP)
        held = store.leases()  # what a watcher needs to know whom to kill
        assert [lease.job_id for lease in held] == [job.id]
        kill(publisher)
        assert store.revoke(job.id, held[0].token, reason="frozen")


def go_together(processes: list[subprocess.Popen[str]]) -> list[subprocess.Popen[str]]:
    """Let all begin before the first is waited for."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return processes


def kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def line(process: subprocess.Popen[str]) -> str:
    return output(process).readline().strip()


def output(process: subprocess.Popen[str]) -> TextIO:
    assert process.stdout is not None
    return process.stdout  # type: ignore[return-value]


def check_whole(url: str) -> None:
    """SQLite looks through all pages and indices; of PostgreSQL a test like this can break nothing."""
    if make_url(url).get_backend_name() != "sqlite":
        return
    database = Database(url, patience_seconds=10)
    with database.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalars().all() == ["ok"]
    database.close()
