"""The order of the queue: the highest priority first, then by place, then by submission.

A place is a number with room between it and the next. When the room is used up, the places are dealt anew.
"""

from __future__ import annotations

import itertools
from typing import Any, Literal

from sqlalchemy import Connection, Row, func, select, update

from homereel.core.errors import InvalidRequest, WrongState
from homereel.jobs.records import Job
from homereel.jobs.rows import as_job, change, load
from homereel.jobs.schema import jobs

IN_ORDER = (jobs.c.priority.desc(), jobs.c.place, jobs.c.number)
_HIGHEST = select(func.max(jobs.c.place))
_WAITING = ("queued", "paused")
_NEVER_PASSED = 1_000_000  # whoever was put somewhere by hand is not passed over for another's model
_LEAST_ROOM = 1e-6


def queue(connection: Connection, *, limit: int) -> tuple[Job, ...]:
    """What is queued, in the order in which it will be run."""
    rows = connection.execute(select(jobs).where(jobs.c.status == "queued").order_by(*IN_ORDER).limit(limit))
    return tuple(map(as_job, rows))


def last_place(connection: Connection) -> float:
    """The highest place of all jobs, ended ones too: a new job comes after it."""
    return float(connection.execute(_HIGHEST).scalar() or 0)


def move(
    connection: Connection,
    job_id: str,
    *,
    before: str | None = None,
    after: str | None = None,
    to: Literal["first", "last"] | None = None,
) -> Job:
    """As `JobStore.move`."""
    row = _waiting(connection, job_id)
    if sum(where is not None for where in (before, after, to)) != 1:
        raise InvalidRequest("say where to: before a job, after a job, first or last", field="before")
    neighbour_id = before or after
    if to is not None:
        order = IN_ORDER if to == "first" else (jobs.c.priority, jobs.c.place.desc(), jobs.c.number.desc())
        waiting = select(jobs.c.id).where(jobs.c.status.in_(_WAITING), jobs.c.id != job_id)
        neighbour_id = connection.execute(waiting.order_by(*order).limit(1)).scalar()
    if neighbour_id is None or neighbour_id == job_id:
        return as_job(row)  # alone, or beside itself
    neighbour = _waiting(connection, neighbour_id)
    place = _place_beside(connection, neighbour, mover=row, ahead=before is not None or to == "first")
    return change(connection, row, "moved", priority=neighbour.priority, place=place, skips=_NEVER_PASSED)


def set_priority(connection: Connection, job_id: str, priority: int) -> Job:
    """As `JobStore.set_priority`."""
    row = _waiting(connection, job_id)
    if row.priority == priority:
        return as_job(row)
    return change(connection, row, "moved", priority=priority, place=last_place(connection) + 1, skips=0)


def _waiting(connection: Connection, job_id: str) -> Row[Any]:
    row = load(connection, job_id)
    if row.status not in _WAITING:
        raise WrongState(f"cannot move {job_id}, which is {row.status}; only queued and paused jobs have a place")
    return row


def _place_beside(connection: Connection, neighbour: Row[Any], *, mover: Row[Any], ahead: bool) -> float:
    """A free place between the neighbour and whoever is next to it on that side."""
    _part_equals(connection, neighbour.priority)
    place = float(connection.execute(select(jobs.c.place).where(jobs.c.id == neighbour.id)).scalar_one())
    others = _of_priority(neighbour.priority).where(jobs.c.number != mover.number)
    beyond = func.max(jobs.c.place) if ahead else func.min(jobs.c.place)
    side = jobs.c.place < place if ahead else jobs.c.place > place
    next_place = connection.execute(others.where(side).with_only_columns(beyond)).scalar()
    if next_place is None:
        return place - 1 if ahead else place + 1
    return (place + float(next_place)) / 2


def _part_equals(connection: Connection, priority: int) -> None:
    """Deal whole numbers as places if two jobs of this priority stand too close to put one between them."""
    standing = connection.execute(
        _of_priority(priority).with_only_columns(jobs.c.number, jobs.c.place).order_by(jobs.c.place, jobs.c.number)
    ).all()
    places = [row.place for row in standing]
    if all(later - earlier > _LEAST_ROOM for earlier, later in itertools.pairwise(places)):
        return
    first = places[0]
    for index, row in enumerate(standing):
        connection.execute(update(jobs).where(jobs.c.number == row.number).values(place=first + index))


def _of_priority(priority: int) -> Any:
    """Those that wait, and those that run, which may come back to their place."""
    return select(jobs).where(jobs.c.status.in_((*_WAITING, "running")), jobs.c.priority == priority)
