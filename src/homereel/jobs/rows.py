"""Between rows and records: every other file here sees jobs only through this."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from homereel.core.errors import UnknownJob
from homereel.jobs.records import Event, EventKind, Job, JobError, is_job_id
from homereel.jobs.schema import events, jobs

_PLAIN = (
    *("id", "status", "model", "stage", "steps_done", "num_steps", "remaining_seconds", "priority", "place"),
    *("attempts", "max_attempts", "wanted", "parent", "relation", "created_at", "started_at", "completed_at"),
)
_SUPERSEDED: frozenset[EventKind] = frozenset({"progress", "moved"})  # only the last of a job is of use
# Made once: to build a statement costs as much as to run it.
_INSERT = insert(jobs).returning(jobs)
_UPDATE = update(jobs).where(jobs.c.number == bindparam("of_number")).returning(jobs)
_SELECT = select(jobs).where(jobs.c.id == bindparam("of_id"))
_INSERT_EVENT = insert(events)
_KEPT_EVENTS = 10_000
_TRIM_EVERY = 100


def load(connection: Connection, job_id: str) -> Row[Any]:
    """The job's row. Raises UnknownJob."""
    row = None
    if is_job_id(job_id):
        row = connection.execute(_SELECT, {"of_id": job_id}).one_or_none()
    if row is None:
        raise unknown(job_id)
    return row


def unknown(job_id: str) -> UnknownJob:
    """What is said of an id that stands for nothing."""
    short = ascii(job_id[:60])
    return UnknownJob(f"there is no job {short}; `homereel jobs list` shows all")


def change(connection: Connection, row: Row[Any], kind: EventKind, **values: Any) -> Job:
    """Write new values to a job's row, note the event, and return the job as it is now."""
    job = as_job(write(connection, row, **values))
    note(connection, job, kind)
    return job


def write(connection: Connection, row: Row[Any], **values: Any) -> Row[Any]:
    """Write new values to a job's row without an event; returns the row as it is now."""
    return connection.execute(_UPDATE, {"of_number": row.number, **values}).one()


def add(connection: Connection, **values: Any) -> Job:
    """Write a new row."""
    return as_job(connection.execute(_INSERT, values).one())


def note(connection: Connection, job: Job, kind: EventKind) -> None:
    """Append an event that tells how the job stands now."""
    if kind in _SUPERSEDED:
        connection.execute(events.delete().where(events.c.job_id == job.id, events.c.kind == kind))
    values = {"job_id": job.id, "kind": kind, "at": time.time(), "data": as_json(_event_data(job))}
    key = connection.execute(_INSERT_EVENT, values).inserted_primary_key
    number = key[0] if key else 0
    if number % _TRIM_EVERY == 0:
        connection.execute(events.delete().where(events.c.number <= number - _KEPT_EVENTS))


def as_job(row: Row[Any]) -> Job:
    """The record of a row."""
    error = from_json(row.error)
    return Job(
        **{name: getattr(row, name) for name in _PLAIN},
        request=from_json(row.request),
        plan=from_json(row.plan),
        error=JobError(**error) if error else None,
        result=from_json(row.result),
        extra=from_json(row.extra),
    )


def as_event(row: Row[Any]) -> Event:
    """The record of a row."""
    return Event(number=row.number, job_id=row.job_id, kind=row.kind, at=row.at, data=from_json(row.data))


def as_json(value: Any) -> str:
    """Plain ASCII, which needs no care for NUL or broken characters. Paths become text."""
    return json.dumps(value, allow_nan=False, default=_path_text, separators=(",", ":"))


def error_json(error: JobError) -> str:
    """An error as its column has it."""
    return as_json(asdict(error))


def from_json(text: str | None) -> Any:
    """What `as_json` wrote; None for an empty column."""
    return None if text is None else json.loads(text)


def _event_data(job: Job) -> Mapping[str, Any]:
    """Enough to draw a line of a list again, without reading the job."""
    return {
        "status": job.status,
        "wanted": job.wanted,
        "progress": job.progress,
        "stage": job.stage,
        "steps_done": job.steps_done,
        "num_steps": job.num_steps,
        "remaining_seconds": job.remaining_seconds,
        "attempts": job.attempts,
        "error": asdict(job.error) if job.error else None,
    }


def _path_text(value: object) -> str:
    if isinstance(value, Path):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} cannot be kept in a job: give numbers, texts, lists and dicts")
