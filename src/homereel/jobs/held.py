"""What the holder of a lease may do with its job, and what is done to a holder that is gone.

A lease is known by its token alone. It has no time in it: whether its holder lives is for a watcher to see (watch.py),
so that no clock can give one job to two workers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, Row, select

from homereel.core.errors import LeaseLost
from homereel.jobs.records import EventKind, Held, Job, JobError, Lease, Returned, Status, Wanted
from homereel.jobs.rows import as_job, as_json, change, error_json, note, write
from homereel.jobs.schema import jobs

_KIND_OF: Mapping[Status, EventKind] = {
    "queued": "requeued",
    "paused": "paused",
    "failed": "failed",
    "cancelled": "cancelled",
}


def renew(connection: Connection, lease: Lease, **told: Any) -> Wanted:
    """As `JobStore.renew`."""
    row = _held(connection, lease)
    news = {name: value for name, value in told.items() if value is not None}
    if "plan" in news:
        news["plan"] = as_json(dict(news["plan"]))
    news = {name: value for name, value in news.items() if value != getattr(row, name)}
    furthest = max(row.furthest, news.get("steps_done", 0))
    values = {**news, "beat": row.beat + 1, "furthest": furthest}
    now = write(connection, row, **values)
    if news:
        note(connection, as_job(now), "progress")
    wanted: Wanted = row.wanted
    return wanted


def complete(
    connection: Connection, lease: Lease, result: Mapping[str, Any], *, publish: Callable[[], object] | None
) -> Job:
    """As `JobStore.complete`."""
    row = load_or_lost(connection, lease)
    if row.status == "completed" and row.token == lease.token:
        return as_job(row)
    row = _held(connection, lease)
    if row.wanted == "cancel":
        return _end(connection, row, "cancelled")
    told = as_json(dict(result))  # a result that cannot be kept must fail before anything is published
    if publish is not None:
        publish()
    return change(
        connection, row, "completed", **_LET_GO, status="completed", result=told, error=None, completed_at=time.time()
    )


def fail(connection: Connection, lease: Lease, error: JobError, *, retry: bool) -> Job:
    """As `JobStore.fail`."""
    row = _held(connection, lease)
    return _blame(connection, row, error, attempts=_attempts(row), give_up=not retry)


def give_back(connection: Connection, lease: Lease, status: Returned) -> Job:
    """As `JobStore.give_back`."""
    row = _held(connection, lease)
    if row.wanted == "cancel" or status == "cancelled":
        return _end(connection, row, "cancelled")
    return _release(connection, row, "paused" if row.wanted == "pause" else "queued")


def revoke(connection: Connection, job_id: str, token: int, *, reason: str) -> bool:
    """As `JobStore.revoke`."""
    row = connection.execute(select(jobs).where(jobs.c.id == job_id)).one_or_none()
    if row is None or row.status != "running" or row.token != token:
        return False
    if row.wanted == "cancel":
        _end(connection, row, "cancelled")
        return True
    attempts = _attempts(row)
    times = f"; it was lost {attempts} times without getting further" if attempts >= row.max_attempts else ""
    _blame(connection, row, JobError("worker_lost", f"{reason}{times}"), attempts=attempts, give_up=False)
    return True


def leases(connection: Connection) -> tuple[Held, ...]:
    """Who holds what."""
    columns = (jobs.c.id, jobs.c.worker, jobs.c.token, jobs.c.beat)
    rows = connection.execute(select(*columns).where(jobs.c.status == "running").order_by(jobs.c.number))
    return tuple(Held(row.id, row.worker, row.token, row.beat) for row in rows)


_LET_GO: Mapping[str, Any] = {"worker": None, "wanted": "run", "stage": None, "remaining_seconds": None}


def load_or_lost(connection: Connection, lease: Lease) -> Row[Any]:
    """The row of a lease's job; LeaseLost if it was deleted."""
    row = connection.execute(select(jobs).where(jobs.c.id == lease.job.id)).one_or_none()
    if row is None:
        raise LeaseLost(f"{lease.job.id} was deleted; what {lease.worker} made of it is dropped")
    return row


def _held(connection: Connection, lease: Lease) -> Row[Any]:
    row = load_or_lost(connection, lease)
    if row.status != "running" or row.token != lease.token:
        now = f"held by {row.worker}" if row.status == "running" else row.status
        raise LeaseLost(f"{lease.worker} no longer holds {row.id}, which is {now}; what it made of it is dropped")
    return row


def _attempts(row: Row[Any]) -> int:
    """How often it has failed now without getting further than ever before."""
    return 1 if row.furthest > row.furthest_failed else row.attempts + 1


def _blame(connection: Connection, row: Row[Any], error: JobError, *, attempts: int, give_up: bool) -> Job:
    spent = {"attempts": attempts, "furthest_failed": row.furthest, "error": error_json(error)}
    if give_up or attempts >= row.max_attempts:
        return _end(connection, row, "failed", **spent)
    if row.wanted == "cancel":
        return _end(connection, row, "cancelled")
    return _release(connection, row, "paused" if row.wanted == "pause" else "queued", **spent)


def _release(connection: Connection, row: Row[Any], status: Status, **values: Any) -> Job:
    return change(connection, row, _KIND_OF[status], **{**_LET_GO, "status": status, **values})


def _end(connection: Connection, row: Row[Any], status: Status, **values: Any) -> Job:
    return change(
        connection, row, _KIND_OF[status], **{**_LET_GO, "status": status, **values}, completed_at=time.time()
    )
