"""A job as the native API shows it: everything that is known, but no path of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from homereel.jobs.records import Job, Status, Wanted
from homereel.server.attachments import map_files
from homereel.server.video_object import notes_of, plan_of

_RESULT_PATHS = ("file", "thumbnail", "spritesheet")


class JobFailure(BaseModel):
    """A word for programs and a line for people."""

    code: str
    message: str


class JobObject(BaseModel):
    """One job. `request` is what was asked for, `plan` what is made of it, `result` what came of it."""

    id: str
    object: Literal["job"]
    status: Status
    wanted: Wanted
    progress: int
    stage: str | None
    steps_done: int
    num_steps: int
    remaining_seconds: float | None
    priority: int
    place: float
    attempts: int
    max_attempts: int
    model: str
    request: dict[str, Any]
    plan: dict[str, Any]
    notes: list[str]
    result: dict[str, Any] | None
    error: JobFailure | None
    parent: str | None
    relation: str | None
    webhook: str | None
    created_at: float
    started_at: float | None
    completed_at: float | None
    links: dict[str, str]


class JobList(BaseModel):
    """A page of jobs."""

    object: Literal["list"]
    data: list[JobObject]
    last_id: str | None
    has_more: bool


class Queue(BaseModel):
    """What will be run, in that order, and how many jobs there are in each status."""

    object: Literal["queue"]
    data: list[JobObject]
    counts: dict[str, int]


class PlanAnswer(BaseModel):
    """What would be made of a request."""

    plan: dict[str, Any]


def job_object(job: Job) -> dict[str, Any]:
    """The job as `JobObject`."""
    told = job.as_dict()
    extra = told.pop("extra")
    result = None if job.result is None else {k: v for k, v in job.result.items() if k not in _RESULT_PATHS}
    return {
        **told,
        "object": "job",
        "request": map_files(job.request, lambda _name, value: Path(value).name if isinstance(value, str) else value),
        "plan": dict(plan_of(job)),
        "notes": notes_of(job),
        "result": result,
        "webhook": extra.get("webhook"),
        "links": _links(job),
    }


def _links(job: Job) -> dict[str, str]:
    """Where to go from here."""
    own, video = f"/api/v1/jobs/{job.id}", f"/v1/videos/{job.id}"
    links = {"self": own, "events": f"/api/v1/events?job={job.id}"}
    if job.status == "running":
        links["preview"] = f"{own}/preview"
    if job.status == "completed":
        links |= {"content": f"{video}/content"}
        links |= {name: f"{video}/content?variant={name}" for name in ("thumbnail", "spritesheet")}
    return links
