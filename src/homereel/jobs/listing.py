"""Looking jobs and events up."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from homereel.core.errors import UnknownJob
from homereel.jobs.records import STATUSES, Event, Job, Page, Status
from homereel.jobs.rows import as_event, as_job, load, unknown
from homereel.jobs.schema import events, jobs

_SHORTEST_ENDING = 4
_DIGITS = frozenset("0123456789abcdef")


def list_jobs(
    connection: Connection, *, limit: int, after: str | None, newest_first: bool, status: Status | None
) -> Page:
    """As `JobStore.list`."""
    wanted = select(jobs).order_by(jobs.c.number.desc() if newest_first else jobs.c.number)
    if status is not None:
        wanted = wanted.where(jobs.c.status == status)
    if after is not None:
        number = load(connection, after).number
        wanted = wanted.where(jobs.c.number < number if newest_first else jobs.c.number > number)
    rows = connection.execute(wanted.limit(limit + 1)).all()
    return Page(tuple(map(as_job, rows[:limit])), has_more=len(rows) > limit)


def find(connection: Connection, ending: str) -> Job:
    """As `JobStore.find`."""
    digits = ending.lower()
    if len(digits) < _SHORTEST_ENDING or not set(digits) <= _DIGITS:
        return as_job(load(connection, ending))
    rows = connection.execute(select(jobs).where(jobs.c.id.like(f"%{digits}")).limit(2)).all()
    if not rows:
        raise unknown(ending)
    if len(rows) > 1:
        raise UnknownJob(f"several jobs end in {digits}; give more of the id")
    return as_job(rows[0])


def counts(connection: Connection) -> dict[Status, int]:
    """As `JobStore.counts`."""
    found = connection.execute(select(jobs.c.status, func.count()).group_by(jobs.c.status))
    numbers = {row[0]: row[1] for row in found}
    return {status: numbers.get(status, 0) for status in STATUSES}


def is_any_queued(connection: Connection) -> bool:
    """Whether there is something to claim."""
    return connection.execute(select(jobs.c.number).where(jobs.c.status == "queued").limit(1)).first() is not None


def list_events(connection: Connection, *, after: int, limit: int, job_id: str | None) -> tuple[Event, ...]:
    """As `JobStore.events`."""
    wanted = select(events).where(events.c.number > after).order_by(events.c.number).limit(limit)
    if job_id is not None:
        wanted = wanted.where(events.c.job_id == job_id)
    return tuple(map(as_event, connection.execute(wanted)))


def last_event(connection: Connection) -> int:
    """As `JobStore.last_event`."""
    return connection.execute(select(func.max(events.c.number))).scalar() or 0
