"""`homereel jobs`: look at queued work and steer it. The store is asked directly, whether a server runs or not."""

from __future__ import annotations

import typer

from homereel.cli.jobs_act import cancel, move, pause, remove, resume, retry
from homereel.cli.jobs_list import list_jobs
from homereel.cli.jobs_show import logs, show

jobs = typer.Typer(name="jobs", help="Look at queued work, and steer it.", no_args_is_help=True)
jobs.command("list")(list_jobs)
jobs.command("show")(show)
jobs.command("cancel")(cancel)
jobs.command("pause")(pause)
jobs.command("resume")(resume)
jobs.command("move")(move)
jobs.command("retry")(retry)
jobs.command("logs")(logs)
jobs.command("rm")(remove)


@jobs.callback()
def common() -> None:
    """Look at queued work, and steer it."""
