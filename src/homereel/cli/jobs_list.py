"""`homereel jobs list`: a table of jobs, the newest first or in the order of the queue."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from homereel.cli.jobs_place import Data, Json, jobs_folder, open_store, short_id, status_text
from homereel.cli.output import one_line, seconds_text, show_json

if TYPE_CHECKING:
    from homereel.jobs.records import Job

StatusName = Literal["queued", "running", "paused", "completed", "failed", "cancelled"]
_PIPE_WIDTH = 120  # a file or a pipe has no width of its own


def list_jobs(
    *,
    status: Annotated[
        StatusName | None,
        typer.Option("--status", metavar="STATUS", help="Only queued, running, paused, completed, failed, cancelled."),
    ] = None,
    queue: Annotated[
        bool, typer.Option("--queue", metavar="", help="What is queued, in the order in which it will be run.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, max=10_000)] = 20,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Tell which jobs there are, the newest first."""
    from homereel.core.errors import UnknownJob

    try:
        with open_store(data) as store:
            counts = store.counts()
            if queue:
                found = store.queue(limit=limit)
                has_more = counts["queued"] > len(found)
            else:
                page = store.list(limit=limit, status=status)
                found, has_more = page.jobs, page.has_more
    except UnknownJob:  # nothing was ever kept there, which is no error here
        found, has_more, counts = (), False, {}
    if as_json:
        rows = [job.as_dict() for job in found]
        show_json({"folder": str(jobs_folder(data)), "counts": dict(counts), "jobs": rows, "has_more": has_more})
        return
    if found:
        _show_table(found)
        print()
    print(_summary(counts, shown=len(found), has_more=has_more))


def _show_table(found: Iterable[Job]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in ("id", "status", "progress", "model", "submitted"):
        table.add_column(name, no_wrap=True)
    table.add_column("prompt")
    for job in found:
        prompt = Text(one_line(str(job.request.get("prompt", "")), limit=200), no_wrap=True, overflow="ellipsis")
        when = datetime.fromtimestamp(job.created_at).strftime("%Y-%m-%d %H:%M")
        table.add_row(short_id(job.id), status_text(job), _progress_text(job), one_line(job.model), when, prompt)
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    Console(markup=False, highlight=False, width=width).print(table)


def _progress_text(job: Job) -> str:
    if job.status == "failed" and job.error is not None:
        return one_line(job.error.code, limit=40)
    if job.status in ("queued", "completed") and not job.steps_done:
        return ""
    left = job.remaining_seconds
    return f"{job.progress} %" + (f", {seconds_text(left)} left" if left is not None else "")


def _summary(counts: Mapping[StatusName, int], *, shown: int, has_more: bool) -> str:
    told = [f"{number} {status}" for status, number in counts.items() if number]
    if not told:
        return "no jobs"
    rest = f" ({shown} are shown; --limit shows more)" if has_more else ""
    return ", ".join(told) + rest
