"""Options that all of `homereel jobs` share, and the way to the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from homereel.jobs.records import Job
    from homereel.jobs.store import JobStore

Data = Annotated[
    Path | None, typer.Option("--data", metavar="FOLDER", help="Where jobs are. By default HOMEREEL_HOME/jobs.")
]
Json = Annotated[bool, typer.Option("--json", metavar="", help="One JSON object with all that is known.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="A job's id, or its last digits, as in `homereel jobs list`.")]
Ids = Annotated[
    list[str], typer.Argument(metavar="ID...", help="Ids of jobs, or their last digits, as in `homereel jobs list`.")
]


def jobs_folder(data: Path | None) -> Path:
    """Where jobs are."""
    from homereel.jobs.data import data_folder

    return data_folder(data)


@contextmanager
def open_store(data: Path | None) -> Iterator[JobStore]:
    """The store that is there. Raises UnknownJob if no job was ever kept there: looking makes nothing."""
    from homereel.core.errors import UnknownJob
    from homereel.jobs.data import has_store
    from homereel.jobs.store import JobStore

    folder = jobs_folder(data)
    if not has_store(folder):
        raise UnknownJob(f"there are no jobs in {folder}; --data names another folder, `homereel serve` takes jobs")
    with JobStore.in_folder(folder) as store:
        yield store


def status_text(job: Job) -> str:
    """The status, and what is wanted otherwise."""
    wishes = {"pause": ", to be paused", "cancel": ", to be cancelled"}
    return job.status + (wishes.get(job.wanted, "") if job.status == "running" else "")


def short_id(job_id: str) -> str:
    """So much of an id that it can be told from others."""
    return job_id[-8:]
