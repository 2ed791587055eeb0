"""GET /api/v1/events: what happens to jobs, as server-sent events, with a small moving preview of those in work."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Header, Query
from starlette.responses import Response, StreamingResponse

from homereel.core.errors import StoreUnavailable
from homereel.jobs.blobs import PREVIEW, JobFolder
from homereel.jobs.records import Event
from homereel.server.errors import refuse
from homereel.server.parts import Here, Parts

router = APIRouter(prefix="/api/v1", tags=["events"])

Previews = Literal["url", "data", "none"]
MAX_PREVIEW_BYTES = 512 * 1024
_RETRY = "retry: 2000\n\n"
_QUIET = ": nothing new\n\n"


@router.get("/events", response_class=StreamingResponse)
async def follow_events(
    here: Here,
    *,
    job: Annotated[str | None, Query(max_length=100, description="Only this job's.")] = None,
    after: Annotated[int | None, Query(ge=0, le=2**53, description="The last event that was seen.")] = None,
    previews: Annotated[Previews, Query(description="How previews come: as an address, or in the event.")] = "url",
    last_event_id: Annotated[str | None, Header(max_length=40)] = None,
) -> Response:
    """Follow what happens, from now on or from an event on; a browser's EventSource takes it up again by itself."""
    if last_event_id is not None and last_event_id.isascii() and last_event_id.isdigit():
        after = int(last_event_id[:15])
    if job is not None:
        await to_thread.run_sync(here.store.get, job)
    if here.feed.is_full:
        return refuse(429, "too many streams of events are open; close one, or ask for single jobs", code="too_many")
    return StreamingResponse(
        _stream(here, after=after, job_id=job, previews=previews),
        media_type="text/event-stream",
        headers={"x-accel-buffering": "no"},
    )


async def _stream(here: Parts, *, after: int | None, job_id: str | None, previews: Previews) -> AsyncIterator[str]:
    yield _RETRY
    shown: dict[str, int] = {}
    with suppress(StoreUnavailable):  # the client comes back by itself
        async for event in here.feed.follow(after, job_id=job_id):
            if event is None:
                yield _QUIET
                continue
            told = {"job": event.job_id, "kind": event.kind, "at": event.at, **event.data}
            if event.kind != "progress":
                shown.pop(event.job_id, None)
            elif previews != "none":
                told |= await to_thread.run_sync(_preview, here, event, previews, shown)
            yield f"id: {event.number}\nevent: {event.kind}\ndata: {json.dumps(told)}\n\n"


def _preview(here: Parts, event: Event, previews: Previews, shown: dict[str, int]) -> dict[str, Any]:
    """The job's preview, if there is one that this stream has not told of yet."""
    try:
        with JobFolder(here.settings.data, event.job_id).open(PREVIEW) as file:
            content = file.read(MAX_PREVIEW_BYTES + 1)
    except OSError:
        return {}
    mark = hash(content)
    if shown.get(event.job_id) == mark or len(content) > MAX_PREVIEW_BYTES:
        return {}
    shown[event.job_id] = mark
    if previews == "data":
        return {"preview": f"data:image/webp;base64,{base64.b64encode(content).decode()}"}
    return {"preview": f"/api/v1/jobs/{event.job_id}/preview?of={event.number}"}
