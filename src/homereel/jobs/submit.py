"""Putting a job into the queue, once for each idempotency key."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from homereel.core.errors import InvalidRequest, JobsError, KeyReused
from homereel.jobs.places import last_place
from homereel.jobs.records import Job, Relation, is_job_id, new_job_id
from homereel.jobs.rows import add, as_job, as_json, load, note
from homereel.jobs.schema import jobs

_MAX_KEY_CHARACTERS = 255
MAX_PRIORITY = 1_000_000


@dataclass(frozen=True)
class Submission:
    """What is handed in, as `JobStore.submit` tells it."""

    request: Mapping[str, Any]
    model: str = ""
    priority: int = 0
    idempotency_key: str | None = None
    same: str | None = None
    parent: str | None = None
    relation: Relation | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    max_attempts: int = 3
    job_id: str | None = None

    def check(self) -> None:
        """Raises InvalidRequest for what a store cannot keep."""
        key = self.idempotency_key
        if key is not None and not (0 < len(key) <= _MAX_KEY_CHARACTERS and key.isascii() and key.isprintable()):
            raise InvalidRequest(
                f"an idempotency key is 1 to {_MAX_KEY_CHARACTERS} printable ASCII characters, such as a UUID",
                field="idempotency_key",
            )
        check_priority(self.priority)
        if not 1 <= self.max_attempts <= 100:
            raise InvalidRequest(f"max_attempts is {self.max_attempts}; give 1 to 100", field="max_attempts")
        if self.job_id is not None and not is_job_id(self.job_id):
            raise InvalidRequest("a job's id is video_ and 32 hexadecimal digits", field="job_id")

    def sha256(self) -> str:
        """The fingerprint of what must be the same when a key comes again."""
        same = self.same
        if same is None:
            told = json.loads(as_json([self.request, self.parent, self.relation]))
            same = json.dumps(told, sort_keys=True)
        return hashlib.sha256(same.encode("utf-8", "surrogatepass")).hexdigest()


def submit(connection: Connection, given: Submission) -> Job:
    """Queue it behind all others, or return the job that its key stands for. Raises KeyReused, UnknownJob."""
    sha256 = given.sha256() if given.idempotency_key is not None else None
    there = _of_key(connection, given.idempotency_key, sha256=sha256)
    if there is not None:
        return there
    if given.parent is not None:
        load(connection, given.parent)
    job_id = given.job_id or new_job_id()
    if given.job_id and connection.execute(select(jobs.c.number).where(jobs.c.id == job_id)).first() is not None:
        raise JobsError(f"there is a job {job_id} already; take a new id for each job")
    values = {
        "id": job_id,
        "status": "queued",
        "request": as_json(dict(given.request)),
        "model": given.model.encode("ascii", "backslashreplace").decode().replace("\0", ""),
        "priority": given.priority,
        "place": last_place(connection) + 1,
        "max_attempts": given.max_attempts,
        "parent": given.parent,
        "relation": given.relation,
        "extra": as_json(dict(given.extra)),
        "idempotency_key": given.idempotency_key,
        "idempotency_sha256": sha256,
        "created_at": time.time(),
    }
    job = add(connection, **values)
    note(connection, job, "submitted")
    return job


def check_priority(priority: int) -> None:
    """Raises InvalidRequest for a number that no database's column holds."""
    if abs(priority) > MAX_PRIORITY:
        raise InvalidRequest(
            f"a priority is a number from {-MAX_PRIORITY} to {MAX_PRIORITY}; 0 is usual", field="priority"
        )


def _of_key(connection: Connection, key: str | None, *, sha256: str | None) -> Job | None:
    if key is None:
        return None
    row = connection.execute(select(jobs).where(jobs.c.idempotency_key == key)).one_or_none()
    if row is None:
        return None
    if row.idempotency_sha256 != sha256:
        raise KeyReused(
            f"the idempotency key {key!r} stands for another request already, that of {row.id}; take a new key"
        )
    return as_job(row)
