"""The job store: what is queued, running and done, kept so that a killed process or a cut of power loses nothing.

It is the meeting point of doors, workers and launchers, which need not know one another. Each method is one
transaction, and one that changes something is on the disk when it returns (but for `renew`). Any of them may raise
StoreUnavailable (locked, full, out of reach) or StoreDamaged. A store may be used from several threads; what they
submit at the same time is written together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from sqlalchemy import URL

from homereel.jobs import held, listing, places, wishes
from homereel.jobs.backup import copy_database
from homereel.jobs.claim import claim
from homereel.jobs.data import DATABASE, read_url
from homereel.jobs.database import Database
from homereel.jobs.joined_writes import JoinedWrites
from homereel.jobs.migrate import prepare
from homereel.jobs.records import Event, Held, Job, JobError, Lease, Page, Relation, Returned, Status, Wanted
from homereel.jobs.rows import as_job, load
from homereel.jobs.submit import Submission, check_priority, submit

PATIENCE_SECONDS = 10.0


class JobStore:
    """All jobs of one data folder or database."""

    def __init__(self, database: Database) -> None:
        """Use `in_folder` or `open`."""
        self._database = database
        self._joined = JoinedWrites(database)

    @classmethod
    def in_folder(cls, data: Path, *, patience_seconds: float = PATIENCE_SECONDS) -> Self:
        """The store of a data folder, made if need be: DATA/jobs.sqlite3, or the database whose URL is the content of
        DATA/database.url. `patience_seconds` is how long a lock is waited for.
        """
        url = read_url(data)
        if url is None:
            url = URL.create("sqlite", database=str(data / DATABASE)).render_as_string()
        return cls.open(url, patience_seconds=patience_seconds)

    @classmethod
    def open(cls, url: str, *, patience_seconds: float = PATIENCE_SECONDS) -> Self:
        """The store at an SQLAlchemy URL: sqlite:////a/file.sqlite3 or postgresql://..."""
        database = Database(url, patience_seconds=patience_seconds)
        try:
            prepare(database)
        except BaseException:
            database.close()
            raise
        return cls(database)

    def submit(
        self,
        request: Mapping[str, Any],
        *,
        model: str = "",
        priority: int = 0,
        idempotency_key: str | None = None,
        same: str | None = None,
        parent: str | None = None,
        relation: Relation | None = None,
        extra: Mapping[str, Any] | None = None,
        max_attempts: int = 3,
        job_id: str | None = None,
    ) -> Job:
        """Queue a job. The same key with the same request gives the job that is there (see by its id).

        `same` is the text that must be equal for that; without it, it is the request, parent and relation. A door that
        stores uploads under random names hands in its own. Raises KeyReused, UnknownJob (the parent).
        """
        given = Submission(
            request=request,
            model=model,
            priority=priority,
            idempotency_key=idempotency_key,
            same=same,
            parent=parent,
            relation=relation,
            extra=extra or {},
            max_attempts=max_attempts,
            job_id=job_id,
        )
        given.check()
        return self._joined.write(lambda connection: submit(connection, given))

    def get(self, job_id: str) -> Job:
        """Raises UnknownJob."""
        with self._database.reading() as connection:
            return as_job(load(connection, job_id))

    def find(self, ending: str) -> Job:
        """The one job whose id is this, or ends in it. Raises UnknownJob if there is none, or more than one."""
        with self._database.reading() as connection:
            return listing.find(connection, ending)

    def list(
        self, *, limit: int = 20, after: str | None = None, newest_first: bool = True, status: Status | None = None
    ) -> Page:
        """In the order of submission, from behind the job `after`. Raises UnknownJob if that one is gone."""
        with self._database.reading() as connection:
            return listing.list_jobs(connection, limit=limit, after=after, newest_first=newest_first, status=status)

    def queue(self, *, limit: int = 100) -> tuple[Job, ...]:
        """What is queued, in the order in which it will be run."""
        with self._database.reading() as connection:
            return places.queue(connection, limit=limit)

    def counts(self) -> dict[Status, int]:
        """How many jobs there are in each status; every status is there."""
        with self._database.reading() as connection:
            return listing.counts(connection)

    def claim(self, worker: str, *, model: str | None = None, max_skips: int = 8) -> Lease | None:
        """The next job for this worker, or None: the highest priority first, then by place. One of `model` goes before
        others of its priority, but no job is passed over more than `max_skips` times.
        """
        with self._database.reading() as connection:
            if not listing.is_any_queued(connection):
                return None  # an idle worker that asks every second writes nothing
        with self._database.writing() as connection:
            return claim(connection, worker, model=model, max_skips=max_skips)

    def renew(
        self,
        lease: Lease,
        *,
        stage: str | None = None,
        steps_done: int | None = None,
        num_steps: int | None = None,
        remaining_seconds: float | None = None,
        plan: Mapping[str, Any] | None = None,
    ) -> Wanted:
        """Show that the worker lives, and tell how far it is; what is None stays as it was. Returns what the user wants
        by now. Raises LeaseLost. What it tells may be lost in a cut of power, nothing else.
        """
        with self._database.writing(lazy=True) as connection:
            return held.renew(
                connection,
                lease,
                stage=stage,
                steps_done=steps_done,
                num_steps=num_steps,
                remaining_seconds=remaining_seconds,
                plan=plan,
            )

    def complete(self, lease: Lease, result: Mapping[str, Any], *, publish: Callable[[], object] | None = None) -> Job:
        """The job is done. `publish` is called when the lease is known to be held, just before this becomes true: the
        place to rename finished files, so that a worker that lost its lease cannot touch another's.

        If the user has cancelled meanwhile, the job comes back as cancelled, and nothing is published: look at its
        status. Raises LeaseLost. Told twice by the same lease, it is done once.
        """
        with self._database.writing() as connection:
            return held.complete(connection, lease, result, publish=publish)

    def fail(self, lease: Lease, error: JobError, *, retry: bool = False) -> Job:
        """The job failed. With `retry` it is queued again until its attempts are used up. Raises LeaseLost."""
        with self._database.writing() as connection:
            return held.fail(connection, lease, error, retry=retry)

    def give_back(self, lease: Lease, status: Returned) -> Job:
        """The worker stops here, without blame. What the user wants comes first: a job to be cancelled is cancelled,
        one to be paused is paused, one that was resumed meanwhile is queued. Raises LeaseLost.
        """
        with self._database.writing() as connection:
            return held.give_back(connection, lease, status)

    def cancel(self, job_id: str) -> Job:
        """At once, or (for a running one) as soon as its worker looks: `wanted`. Raises UnknownJob, WrongState."""
        with self._database.writing() as connection:
            return wishes.cancel(connection, job_id)

    def pause(self, job_id: str) -> Job:
        """At once, or (for a running one) as soon as its worker looks: `wanted`. Raises UnknownJob, WrongState."""
        with self._database.writing() as connection:
            return wishes.pause(connection, job_id)

    def resume(self, job_id: str) -> Job:
        """Queue a paused job at its old place, or take back a pause. Raises UnknownJob, WrongState."""
        with self._database.writing() as connection:
            return wishes.resume(connection, job_id)

    def retry(self, job_id: str) -> Job:
        """Queue a failed or cancelled job again, behind all others. Raises UnknownJob, WrongState."""
        with self._database.writing() as connection:
            return wishes.retry(connection, job_id)

    def delete(self, job_id: str) -> Job:
        """Forget a job that is not running, and return what it was; its folder is the caller's to remove. Raises
        UnknownJob, WrongState.
        """
        with self._database.writing() as connection:
            return wishes.forget(connection, job_id)

    def move(
        self,
        job_id: str,
        *,
        before: str | None = None,
        after: str | None = None,
        to: Literal["first", "last"] | None = None,
    ) -> Job:
        """Put a queued or paused job right before or after another such one, whose priority it takes, or first or last
        of all. Give exactly one of the three. Raises UnknownJob, WrongState.
        """
        with self._database.writing() as connection:
            return places.move(connection, job_id, before=before, after=after, to=to)

    def set_priority(self, job_id: str, priority: int) -> Job:
        """For a queued or paused job; it goes behind the others of that priority. Raises UnknownJob, WrongState."""
        check_priority(priority)
        with self._database.writing() as connection:
            return places.set_priority(connection, job_id, priority)

    def leases(self) -> tuple[Held, ...]:
        """Who holds what."""
        with self._database.reading() as connection:
            return held.leases(connection)

    def revoke(self, job_id: str, token: int, *, reason: str) -> bool:
        """Take a job from a worker that is dead or silent; False if it no longer holds it. The job is queued again at
        its old place, or failed if it was lost `max_attempts` times without getting further; what the user wants
        comes first, as in `give_back`.
        """
        with self._database.writing() as connection:
            return held.revoke(connection, job_id, token, reason=reason)

    def events(self, after: int = 0, *, limit: int = 500, job_id: str | None = None) -> tuple[Event, ...]:
        """What happened after this number, the oldest first. Of a job's progress only the last is kept, and of all
        events the newest 10,000.
        """
        with self._database.reading() as connection:
            return listing.list_events(connection, after=after, limit=limit, job_id=job_id)

    def last_event(self) -> int:
        """The number of the newest event; 0 if there is none."""
        with self._database.reading() as connection:
            return listing.last_event(connection)

    def back_up(self) -> Path | None:
        """Copy an SQLite database beside itself, whole, while it is in use; returns the copy. For the start of a
        server. None for PostgreSQL, which has tools of its own.
        """
        file = self._database.file
        return copy_database(self._database, file.with_name(f"{file.name}.backup")) if file else None

    def close(self) -> None:
        """Let go of all connections."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
