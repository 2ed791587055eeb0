"""Hands out the files of a job: by ranges, with a tag that says whether they changed, never to be run as a page."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from homereel.jobs.blobs import CLIP, PREVIEW, SPRITESHEET, THUMBNAIL, JobFolder
from homereel.jobs.records import Job
from homereel.server.errors import NotReady
from homereel.server.parts import Parts

VARIANTS = {"video": CLIP, "thumbnail": THUMBNAIL, "spritesheet": SPRITESHEET}
_TYPES = {CLIP: "video/mp4", THUMBNAIL: "image/webp", SPRITESHEET: "image/jpeg", PREVIEW: "image/webp"}
# Kept by a browser, but asked for again: a retried job may have another clip.
_FRESH = {"cache-control": "private, no-cache"}


def clip_answer(request: Request, parts: Parts, job: Job, *, variant: str, saved_as: str | None = None) -> Response:
    """A finished job's clip, its thumbnail or its sheet of frames, to be saved as `saved_as`. Raises NotReady."""
    if job.status != "completed":
        later = "" if job.is_over else f"; ask /v1/videos/{job.id} how far it is"
        raise NotReady(f"{job.id} has no clip: it is {job.status}{later}")
    headers = {}
    if variant == "video" and job.result and job.result.get("sha256"):
        headers["etag"] = f'"{job.result["sha256"]}"'
    return file_answer(request, parts, job.id, VARIANTS[variant], headers=headers, saved_as=saved_as)


def preview_answer(request: Request, parts: Parts, job: Job) -> Response:
    """What a clip in work looks like so far, as a small moving WebP. Raises NotReady."""
    return file_answer(request, parts, job.id, PREVIEW)


def file_answer(
    request: Request,
    parts: Parts,
    job_id: str,
    name: str,
    *,
    headers: Mapping[str, str] | None = None,
    saved_as: str | None = None,
) -> Response:
    """One file of a job's folder. Raises NotReady if it is not there, or is a link or no plain file."""
    folder = JobFolder(parts.settings.data, job_id)
    path = folder.path / name
    try:
        if not folder.is_inside(path):
            raise FileNotFoundError(name)
        status = path.lstat()
    except OSError:
        raise NotReady(f"{job_id} has no {name}") from None
    answer = FileResponse(
        path,
        headers={**_FRESH, **(headers or {})},
        media_type=_TYPES[name],
        filename=saved_as or f"{job_id}{path.suffix}",
        stat_result=status,
        content_disposition_type="attachment",
    )
    if _is_known(request.headers, answer.headers["etag"]):
        kept = {key: answer.headers[key] for key in ("etag", "cache-control", "last-modified")}
        return Response(status_code=304, headers=kept)
    return answer


def _is_known(headers: Headers, etag: str) -> bool:
    """Whether the client has this very file already."""
    tags = [tag.strip().removeprefix("W/") for tag in headers.get("if-none-match", "").split(",")]
    return etag in tags or "*" in tags
