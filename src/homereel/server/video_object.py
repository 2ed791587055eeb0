"""A job in the shape of OpenAI's video object, which clients of several servers read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel

from homereel.jobs.records import Job, Status

_STATUS: dict[Status, str] = {
    "queued": "queued",
    "paused": "queued",
    "running": "in_progress",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "failed",  # any other word would end a client's polling as if the clip were there
}
_SOON_MS, _LATE_MS, _QUEUED_MS = 200, 5_000, 500


class VideoError(BaseModel):
    """Why there is no clip; `code` is "cancelled" where somebody wanted none."""

    code: str
    message: str


class VideoDetails(BaseModel):
    """What OpenAI's object has no place for."""

    seed: int | None
    fps: float | None
    num_frames: int | None
    stage: str | None
    remaining_seconds: float | None
    notes: list[str]


class Video(BaseModel):
    """One clip that was asked for."""

    id: str
    object: Literal["video"]
    model: str
    status: Literal["queued", "in_progress", "completed", "failed"]
    progress: int
    created_at: int
    completed_at: int | None
    expires_at: int | None
    error: VideoError | None
    prompt: str | None
    size: str
    seconds: str
    remixed_from_video_id: str | None
    homereel: VideoDetails


class VideoList(BaseModel):
    """A page of clips."""

    object: Literal["list"]
    data: list[Video]
    first_id: str | None
    last_id: str | None
    has_more: bool


class VideoDeleted(BaseModel):
    """Whether a clip is gone; one whose worker is still busy with its present step is not yet."""

    id: str
    object: Literal["video.deleted"]
    deleted: bool


def video_object(job: Job) -> dict[str, Any]:
    """The job as `Video`; size and length are those of the plan."""
    plan = plan_of(job)
    return {
        "id": job.id,
        "object": "video",
        "model": job.model,
        "status": _STATUS[job.status],
        "progress": job.progress,
        "created_at": int(job.created_at),
        "completed_at": None if job.completed_at is None or job.status != "completed" else int(job.completed_at),
        "expires_at": None,
        "error": _error(job),
        "prompt": job.request.get("prompt"),
        "size": f"{plan.get('width', 0)}x{plan.get('height', 0)}",
        "seconds": f"{plan.get('num_frames', 0) / (plan.get('fps') or 1):g}",
        "remixed_from_video_id": job.parent if job.relation == "remix" else None,
        "homereel": {
            "seed": plan.get("seed"),
            "fps": plan.get("fps"),
            "num_frames": plan.get("num_frames"),
            "stage": job.stage if job.status == "running" else None,
            "remaining_seconds": job.remaining_seconds if job.status == "running" else None,
            "notes": notes_of(job),
        },
    }


def plan_of(job: Job) -> Mapping[str, Any]:
    """What its worker settled; before that, what was planned when it came."""
    return job.plan or job.extra.get("plan") or {}


def notes_of(job: Job) -> list[str]:
    """Every wish that was moved to a legal value, is not heeded, or was not understood, in a sentence each."""
    plan = plan_of(job)
    told = [*job.extra.get("notes", []), *plan.get("adjustments", []), *plan.get("warnings", [])]
    if job.status == "paused":
        told.append("it is paused; POST /api/v1/jobs/ID/resume lets it go on")
    return told


def poll_after_ms(job: Job) -> int:
    """When it is worth asking again. OpenAI's client keeps to the first answer for all of its polls, so it is short."""
    if job.status != "running" or job.remaining_seconds is None:
        return _QUEUED_MS
    return max(_SOON_MS, min(_LATE_MS, round(job.remaining_seconds * 1000 / 10)))


def _error(job: Job) -> dict[str, str] | None:
    if job.status == "cancelled":
        return {"code": "cancelled", "message": "it was cancelled; nothing was made"}
    if job.status == "failed" and job.error is not None:
        return {"code": job.error.code, "message": job.error.message}
    return None
