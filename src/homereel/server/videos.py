"""/v1/videos in OpenAI's shape: what the `openai` client does works here, and so do clients of SGLang, vLLM-Omni and
FastVideo. Create, edit and extend are in video_create.py.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from homereel.core.errors import UnwritableTarget, WrongState
from homereel.jobs.blobs import JobFolder
from homereel.jobs.records import Job
from homereel.server.content import clip_answer
from homereel.server.errors import ErrorAnswer, answer
from homereel.server.parts import Here, Parts
from homereel.server.video_object import Video, VideoDeleted, VideoList, poll_after_ms, video_object

router = APIRouter(prefix="/v1/videos", tags=["videos"], responses={"4XX": {"model": ErrorAnswer}})

VideoId = Annotated[str, Path(description="The clip's id: video_ and 32 hexadecimal digits.")]
# A step of a small model is over in that time; a longer one goes on being cancelled behind the answer.
_PATIENCE_SECONDS = 5.0
_LOOK_SECONDS = 0.1


def shown(job: Job) -> Response:
    """The job as `Video`, and when to ask again."""
    return answer(video_object(job), headers={"openai-poll-after-ms": str(poll_after_ms(job))})


@router.get("", response_model=VideoList)
def list_videos(
    here: Here,
    *,
    after: Annotated[str | None, Query(max_length=100, description="The last id of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Annotated[Literal["asc", "desc"], Query(description="By the time they came.")] = "desc",
) -> Response:
    """All clips, the newest first."""
    page = here.store.list(limit=limit, after=after, newest_first=order == "desc")
    data = [video_object(job) for job in page.jobs]
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return answer({"object": "list", "data": data, **ends, "has_more": page.has_more})


@router.get("/{video_id}", response_model=Video)
def retrieve_video(here: Here, video_id: VideoId) -> Response:
    """How far a clip is; the header openai-poll-after-ms says when to ask again."""
    return shown(here.store.get(video_id))


@router.delete("/{video_id}", response_model=VideoDeleted)
def delete_video(here: Here, video_id: VideoId) -> Response:
    """Forget a clip and remove its files; one in work is cancelled first."""
    return answer({"id": video_id, "object": "video.deleted", "deleted": remove_job(here, video_id)})


@router.head("/{video_id}/content", include_in_schema=False)
@router.get("/{video_id}/content", response_class=Response, responses={200: {"content": {"video/mp4": {}}}})
def download_content(
    here: Here,
    request: Request,
    video_id: VideoId,
    *,
    variant: Annotated[Literal["video", "thumbnail", "spritesheet"], Query()] = "video",
) -> Response:
    """The finished clip as an mp4, or pictures of it; by ranges, if wanted."""
    return clip_answer(request, here, here.store.get(video_id), variant=variant)


def remove_job(here: Parts, job_id: str) -> bool:
    """Delete a job with its folder; False if it is being cancelled, and its worker has not stopped yet."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        with suppress(WrongState):
            here.store.delete(job_id)
            break
        job = here.store.get(job_id)
        if job.status == "running" and job.wanted != "cancel":
            with suppress(WrongState):  # it has ended meanwhile
                here.store.cancel(job_id)
        if time.monotonic() > until:
            return False
        time.sleep(_LOOK_SECONDS)
    with suppress(UnwritableTarget):  # the sweep at the next start takes it
        JobFolder(here.settings.data, job_id).remove()
    return True
