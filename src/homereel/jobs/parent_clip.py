"""The clip of another job, for a request that names it by the job's id: found when the worker comes to it, so that a
job may be queued before the one that it comes from is done.
"""

from __future__ import annotations

from pathlib import Path

from homereel.core.errors import InvalidRequest, UnknownJob
from homereel.core.request import Request
from homereel.jobs.blobs import JobFolder
from homereel.jobs.store import JobStore
from homereel.workflows.step import job_of_place

FIELDS = ("refine", "extend", "video", "image")
LAST_FRAME = "last-frame.png"


def with_parent_clips(request: Request, *, store: JobStore, data: Path, folder: JobFolder) -> Request:
    """The request with paths where it named jobs; of one that is named as a picture the last frame is taken.

    Raises InvalidRequest for a job that is gone, or that has no clip.
    """
    found: dict[str, Path] = {}
    for name in FIELDS:
        place = getattr(request, name)
        job_id = None if place is None else job_of_place(place)
        if job_id is not None:
            clip = _clip_of(job_id, store=store, data=data, field=name)
            found[name] = _last_frame(clip, folder) if name == "image" else clip
    return request.replace(**found) if found else request


def _clip_of(job_id: str, *, store: JobStore, data: Path, field: str) -> Path:
    try:
        job = store.get(job_id)
        parent = JobFolder(data, job_id)
    except UnknownJob:
        raise InvalidRequest(
            f"{field}: the clip that this one comes from was deleted; choose another", field=field
        ) from None
    if job.status != "completed" or not parent.is_inside(parent.clip):
        raise InvalidRequest(
            f"{field}: the clip that this one comes from was not made, its job is {job.status}; "
            "make that one first, then try this one again",
            field=field,
        )
    return parent.clip


def _last_frame(clip: Path, folder: JobFolder) -> Path:
    from homereel.workflows.film import write_last_frame

    return write_last_frame(clip, folder.path / LAST_FRAME)
