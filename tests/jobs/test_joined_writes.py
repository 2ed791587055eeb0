"""What several threads submit at once is one transaction, and each of them is told the truth about its own part."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event, exc

from homereel.core.errors import InvalidRequest, KeyReused, StoreUnavailable, UnknownJob
from homereel.jobs.records import Job, new_job_id
from homereel.jobs.store import JobStore
from tests.jobs.conftest import REQUEST

Told = dict[int, Job | Exception]


def together(store: JobStore, works: list[Callable[[], Job]]) -> Told:
    """Let them come while another writes, so that they meet; what each returned or raised."""
    told: Told = {}

    def run(index: int) -> None:
        try:
            told[index] = works[index]()
        except Exception as error:  # noqa: BLE001  to be looked at
            told[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(works))]
    until = time.monotonic() + 60
    with store._database.writing():
        for thread in threads:
            thread.start()
        while len(store._joined._waiting) < len(works):
            assert time.monotonic() < until, "they never met"
            time.sleep(0.001)
        assert not told, "nobody is told before it is written"
    for thread in threads:
        thread.join()
    return told


def test_submits_that_meet_wait_for_the_disk_once(store: JobStore) -> None:
    commits: list[object] = []
    event.listen(store._database.engine, "commit", commits.append)
    told = together(store, [lambda: store.submit(REQUEST)] * 8)
    assert len(commits) == 2  # theirs, and the one that they met behind
    made = [job.id for job in told.values() if isinstance(job, Job)]
    assert len(set(made)) == 8
    assert {job.id for job in store.queue()} == set(made)
    assert len({job.place for job in store.queue()}) == 8
    assert len(store.events()) == 8


def test_what_is_wrong_with_one_is_told_to_that_one(store: JobStore) -> None:
    first = store.submit(REQUEST, idempotency_key="one")
    works: list[Callable[[], Job]] = [
        lambda: store.submit(REQUEST),
        lambda: store.submit({"prompt": "another"}, idempotency_key="one"),
        lambda: store.submit(REQUEST, parent=new_job_id()),
        lambda: store.submit({"prompt": object()}),
        lambda: store.submit(REQUEST, idempotency_key="one"),
        lambda: store.submit(REQUEST, idempotency_key="two"),
        lambda: store.submit(REQUEST, idempotency_key="two"),
    ]
    told = together(store, works)
    assert isinstance(told[0], Job)
    assert [type(told[index]) for index in (1, 2, 3)] == [KeyReused, UnknownJob, TypeError]
    assert told[4] == first
    assert told[5] == told[6]
    assert store.counts()["queued"] == 3


def test_what_needs_no_database_is_refused_before(store: JobStore) -> None:
    with pytest.raises(InvalidRequest):
        store.submit(REQUEST, idempotency_key="")
    assert not store._joined._waiting


def test_a_transaction_that_fails_is_told_to_all_and_leaves_nothing(store: JobStore) -> None:
    commits: list[object] = []

    def full(connection: Any) -> None:
        commits.append(connection)
        if len(commits) > 1:  # the first is that which they meet behind
            cause = sqlite3.OperationalError("database or disk is full")
            cause.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise exc.OperationalError("COMMIT", None, cause)

    event.listen(store._database.engine, "commit", full)
    told = together(store, [lambda: store.submit(REQUEST)] * 3)
    event.remove(store._database.engine, "commit", full)
    assert [type(answer) for answer in told.values()] == [StoreUnavailable] * 3
    assert store.list().jobs == ()
    assert store.submit(REQUEST).status == "queued"


def test_who_is_locked_out_is_told_so(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store._database, "patience_seconds", 0.05)
    told: list[Exception] = []

    def submit() -> None:
        try:
            store.submit(REQUEST)
        except StoreUnavailable as error:
            told.append(error)

    threads = [threading.Thread(target=submit) for _ in range(4)]
    with store._database.writing():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(told) == 4
    assert store.counts()["queued"] == 0
    assert store.submit(REQUEST).status == "queued"
