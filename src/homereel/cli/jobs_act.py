"""`homereel jobs cancel`, `pause`, `resume`, `retry`, `move` and `rm`: what a user can ask of jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from homereel.cli.jobs_place import Data, Id, Ids, Json, jobs_folder, open_store
from homereel.cli.output import show_json

if TYPE_CHECKING:
    from homereel.jobs.records import Job
    from homereel.jobs.store import JobStore


def cancel(ids: Ids, *, data: Data = None, as_json: Json = False) -> None:
    """Cancel jobs: at once, or, if running, after the present step."""
    with open_store(data) as store:
        _tell(_each(store, ids, store.cancel), later="will be cancelled after its present step", as_json=as_json)


def pause(ids: Ids, *, data: Data = None, as_json: Json = False) -> None:
    """Pause jobs. A running one stops after its present step, frees its memory, and can go on from there."""
    with open_store(data) as store:
        _tell(_each(store, ids, store.pause), later="will be paused after its present step", as_json=as_json)


def resume(ids: Ids, *, data: Data = None, as_json: Json = False) -> None:
    """Let paused jobs go on, each at its old place in the queue."""
    with open_store(data) as store:
        _tell(_each(store, ids, store.resume), later="goes on", as_json=as_json)


def retry(ids: Ids, *, data: Data = None, as_json: Json = False) -> None:
    """Queue failed or cancelled jobs again, behind all others."""
    with open_store(data) as store:
        _tell(_each(store, ids, store.retry), later="", as_json=as_json)


def move(
    job_id: Id,
    *,
    first: Annotated[bool, typer.Option("--first", metavar="", help="Before all others.")] = False,
    last: Annotated[bool, typer.Option("--last", metavar="", help="Behind all others.")] = False,
    before: Annotated[str | None, typer.Option("--before", metavar="ID", help="Right before this job.")] = None,
    after: Annotated[str | None, typer.Option("--after", metavar="ID", help="Right behind this job.")] = None,
    priority: Annotated[
        int | None, typer.Option("--priority", metavar="N", help="Higher ones are run first; 0 is usual.")
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Change a queued or paused job's place in the queue."""
    from homereel.core.errors import InvalidRequest

    if sum((first, last, before is not None, after is not None, priority is not None)) != 1:
        raise InvalidRequest("say where to, with one of --first, --last, --before, --after and --priority")
    with open_store(data) as store:
        job = store.find(job_id)
        if priority is not None:
            moved = store.set_priority(job.id, priority)
        elif first or last:
            moved = store.move(job.id, to="first" if first else "last")
        else:
            neighbours = [None if word is None else store.find(word).id for word in (before, after)]
            moved = store.move(job.id, before=neighbours[0], after=neighbours[1])
        ahead = [other.id for other in store.queue(limit=10_000)]
    if as_json:
        show_json({"jobs": [moved.as_dict()]})
        return
    place = f"number {ahead.index(moved.id) + 1} in the queue" if moved.id in ahead else moved.status
    print(f"{moved.id} is {place}")


def remove(ids: Ids, *, data: Data = None, as_json: Json = False) -> None:
    """Forget jobs that are not running, and remove their folders with all that was made."""
    from homereel.jobs.blobs import JobFolder

    with open_store(data) as store:
        gone = _each(store, ids, store.delete)
    for job in gone:
        JobFolder(jobs_folder(data), job.id).remove()
    if as_json:
        show_json({"removed": [job.id for job in gone]})
        return
    for job in gone:
        print(f"{job.id} is gone")


def _each(store: JobStore, ids: Iterable[str], act: Callable[[str], Job]) -> list[Job]:
    """All are looked up before the first is touched, so that a misspelt id changes nothing."""
    found = [store.find(word) for word in ids]
    return [act(job.id) for job in found]


def _tell(done: list[Job], *, later: str, as_json: bool) -> None:
    if as_json:
        show_json({"jobs": [job.as_dict() for job in done]})
        return
    for job in done:
        print(f"{job.id} {later if job.status == 'running' else f'is {job.status}'}")
