"""Which job a worker gets next: by priority and place, but rather one whose model is loaded already. What comes
from a clip that is still to be made waits for it.
"""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Connection, Row, Select, exists, func, literal, not_, or_, select, update

from homereel.jobs.places import IN_ORDER
from homereel.jobs.records import TERMINAL, Lease
from homereel.jobs.rows import change
from homereel.jobs.schema import jobs

_PARENT = jobs.alias("parent")
_NAMES_ITS_CLIP = jobs.c.request.contains(literal('"job:').concat(jobs.c.parent).concat('"'))
_UNFINISHED = (_PARENT.c.id == jobs.c.parent) & _PARENT.c.status.notin_(TERMINAL)
# A job whose request names the clip of its parent waits until that one has ended, well or not.
_PARENT_IS_OVER = or_(jobs.c.parent.is_(None), not_(exists().where(_UNFINISHED, _NAMES_ITS_CLIP)))


def claim(connection: Connection, worker: str, *, model: str | None, max_skips: int) -> Lease | None:
    """Take the next job for this worker; None if nothing is queued. Those that are passed over are counted, and when
    one of them has been passed over `max_skips` times, it is its turn.
    """
    columns = (jobs.c.number, jobs.c.model, jobs.c.priority, jobs.c.place, jobs.c.token, jobs.c.started_at)
    queued: Select[Any] = select(*columns).where(jobs.c.status == "queued", _PARENT_IS_OVER)
    first = connection.execute(queued.order_by(*IN_ORDER).limit(1)).one_or_none()
    if first is None:
        return None
    chosen = first
    if model and first.model != model:
        alike = queued.where(jobs.c.priority == first.priority, jobs.c.model == model)
        found = connection.execute(alike.order_by(*IN_ORDER).limit(1)).one_or_none()
        if found is not None and _may_pass(connection, found, max_skips=max_skips):
            chosen = found
    return _take(connection, chosen, worker=worker)


def _may_pass(connection: Connection, row: Row[Any], *, max_skips: int) -> bool:
    """Whether all that stand before it may wait; if so, it is noted that they had to."""
    before = (
        jobs.c.status == "queued",
        _PARENT_IS_OVER,
        jobs.c.priority == row.priority,
        (jobs.c.place < row.place) | ((jobs.c.place == row.place) & (jobs.c.number < row.number)),
    )
    most = connection.execute(select(func.max(jobs.c.skips)).where(*before)).scalar() or 0
    if most >= max_skips:
        return False
    connection.execute(update(jobs).where(*before).values(skips=jobs.c.skips + 1))
    return True


def _take(connection: Connection, row: Row[Any], *, worker: str) -> Lease:
    token = row.token + 1
    job = change(
        connection,
        row,
        "started",
        status="running",
        wanted="run",
        worker=worker,
        token=token,
        beat=0,
        skips=0,
        stage=None,
        remaining_seconds=None,
        started_at=row.started_at or time.time(),
    )
    return Lease(job, worker=worker, token=token)
