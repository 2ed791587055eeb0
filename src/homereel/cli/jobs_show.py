"""`homereel jobs show` and `homereel jobs logs`: all about one job."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homereel.cli.jobs_place import Data, Id, Json, jobs_folder, open_store, status_text
from homereel.cli.output import bytes_text, one_line, seconds_text, show_json, show_rows, tell

if TYPE_CHECKING:
    from homereel.jobs.blobs import JobFolder
    from homereel.jobs.records import Job


def show(job_id: Id, *, data: Data = None, as_json: Json = False) -> None:
    """Tell all about one job."""
    from homereel.jobs.blobs import JobFolder

    with open_store(data) as store:
        job = store.find(job_id)
        workers = [held.worker for held in store.leases() if held.job_id == job.id]
        events = store.events(job_id=job.id)
    folder = JobFolder(jobs_folder(data), job.id)
    worker = workers[0] if workers else None
    if as_json:
        told = {**job.as_dict(), "folder": str(folder.path), "worker": worker}
        show_json({**told, "events": [asdict(event) for event in events]})
        return
    show_rows(_rows(job, folder=folder, worker=worker))


def logs(job_id: Id, *, data: Data = None, as_json: Json = False) -> None:
    """Show what the workers wrote down about a job."""
    from homereel.jobs.blobs import JobFolder

    with open_store(data) as store:
        job = store.find(job_id)
    folder = JobFolder(jobs_folder(data), job.id)
    text = folder.read_log()
    if as_json:
        show_json({"id": job.id, "file": str(folder.log), "log": text})
        return
    if text is None:
        tell(f"{job.id} is {job.status}, and has no log yet")
    for line in (text or "").splitlines():
        print(one_line(line))


def _rows(job: Job, *, folder: JobFolder, worker: str | None) -> Iterator[tuple[str, str]]:
    yield "id", job.id
    yield "status", status_text(job)
    yield "progress", _progress_text(job)
    yield "worker", worker or ""
    yield "error", f"{job.error.message} ({job.error.code})" if job.error else ""
    yield "prompt", str(job.request.get("prompt", ""))
    yield "model", job.model
    yield "clip", _clip_text(job.result or job.plan or {})
    yield "film", _film_text(job, folder.path)
    yield "priority", str(job.priority) if job.priority else ""
    yield "attempts", f"{job.attempts} of {job.max_attempts} without getting further" if job.attempts else ""
    yield job.relation or "made from", job.parent or ""
    yield "submitted", _time_text(job.created_at)
    yield "started", _time_text(job.started_at)
    yield "ended", _time_text(job.completed_at)
    yield "folder", str(folder.path)


def _progress_text(job: Job) -> str:
    steps = f", step {job.steps_done} of {job.num_steps}" if job.num_steps else ""
    left = f", {seconds_text(job.remaining_seconds)} left" if job.remaining_seconds is not None else ""
    stage = f", {job.stage}" if job.stage else ""
    return f"{job.progress} %{stage}{steps}{left}"


def _clip_text(told: Any) -> str:
    try:
        return f"{told['width']}x{told['height']}, {told['num_frames']} frames at {told['fps']:g} fps"
    except (KeyError, TypeError, ValueError):
        return ""


def _film_text(job: Job, folder: Path) -> str:
    if job.result is None or "file" not in job.result:
        return ""
    return f"{folder / str(job.result['file'])} ({bytes_text(float(job.result.get('bytes') or 0))})"


def _time_text(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S")
