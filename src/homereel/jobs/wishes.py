"""What users ask of jobs: cancel, pause, resume, retry, delete. A running job only hears of it; its worker obeys.

Asking for what is so already changes nothing, so that a request that is sent twice does no harm.
"""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Connection, Row, delete

from homereel.core.errors import WrongState
from homereel.jobs.places import last_place
from homereel.jobs.records import Job, Wanted
from homereel.jobs.rows import as_job, change, load, note
from homereel.jobs.schema import events, jobs


def cancel(connection: Connection, job_id: str) -> Job:
    """As `JobStore.cancel`."""
    row = load(connection, job_id)
    if row.status == "running":
        return _want(connection, row, "cancel")
    if row.status in ("completed", "failed"):
        raise _wrong(row, "cancel", "it is over")
    if row.status == "cancelled":
        return as_job(row)
    return change(connection, row, "cancelled", status="cancelled", completed_at=time.time())


def pause(connection: Connection, job_id: str) -> Job:
    """As `JobStore.pause`."""
    row = load(connection, job_id)
    if row.status == "running":
        if row.wanted == "cancel":
            raise _wrong(row, "pause", "it is being cancelled")
        return _want(connection, row, "pause")
    if row.status == "paused":
        return as_job(row)
    if row.status != "queued":
        raise _wrong(row, "pause", "only queued and running jobs can be paused")
    return change(connection, row, "paused", status="paused")


def resume(connection: Connection, job_id: str) -> Job:
    """As `JobStore.resume`."""
    row = load(connection, job_id)
    if row.status == "running":
        if row.wanted == "cancel":
            raise _wrong(row, "resume", "it is being cancelled")
        return _want(connection, row, "run")
    if row.status == "queued":
        return as_job(row)
    if row.status != "paused":
        raise _wrong(row, "resume", "only paused jobs can be; `retry` queues one that failed or was cancelled")
    return change(connection, row, "resumed", status="queued")


def retry(connection: Connection, job_id: str) -> Job:
    """As `JobStore.retry`."""
    row = load(connection, job_id)
    if row.status not in ("failed", "cancelled"):
        raise _wrong(row, "retry", "only failed and cancelled jobs can be")
    return change(
        connection,
        row,
        "retried",
        status="queued",
        place=last_place(connection) + 1,
        attempts=0,
        furthest=0,
        furthest_failed=0,
        steps_done=0,
        skips=0,
        error=None,
        completed_at=None,
    )


def forget(connection: Connection, job_id: str) -> Job:
    """As `JobStore.delete`."""
    row = load(connection, job_id)
    if row.status == "running":
        raise _wrong(row, "delete", "cancel it first")
    job = as_job(row)
    connection.execute(delete(jobs).where(jobs.c.number == row.number))
    connection.execute(delete(events).where(events.c.job_id == job_id))
    note(connection, job, "deleted")
    return job


def _want(connection: Connection, row: Row[Any], wanted: Wanted) -> Job:
    """Leave word for the worker, unless it has it already."""
    if row.wanted == wanted:
        return as_job(row)
    return change(connection, row, "wanted", wanted=wanted)


def _wrong(row: Row[Any], verb: str, why: str) -> WrongState:
    return WrongState(f"cannot {verb} {row.id}, which is {row.status}: {why}")
