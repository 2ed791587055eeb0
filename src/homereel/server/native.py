"""/api/v1: everything that homereel can be asked for, and everything that can be done with what is queued."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from homereel.core.errors import InvalidRequest
from homereel.jobs.records import Job, Status
from homereel.server.content import preview_answer
from homereel.server.errors import ErrorAnswer, answer
from homereel.server.job_object import JobList, JobObject, PlanAnswer, Queue, job_object
from homereel.server.json_body import read_json
from homereel.server.native_body import read_fields, read_wish, request_schema
from homereel.server.parts import Here
from homereel.server.video_create import Key
from homereel.server.video_object import VideoDeleted
from homereel.server.videos import remove_job

router = APIRouter(prefix="/api/v1", tags=["jobs"], responses={"4XX": {"model": ErrorAnswer}})

JobId = Annotated[str, Path(description="The job's id: video_ and 32 hexadecimal digits.")]
_ID = {"type": "string"}
_MOVE = {
    "type": "object",
    "properties": {"before": _ID, "after": _ID, "to": {"enum": ["first", "last"]}},
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": False,
}
_PRIORITY = {
    "type": "object",
    "properties": {"priority": {"type": "integer"}},
    "required": ["priority"],
    "additionalProperties": False,
}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


_BODY = _json(request_schema())


@router.post("/jobs", response_model=JobObject, openapi_extra=_BODY, status_code=201)
async def submit_job(here: Here, request: Request, *, idempotency_key: Key = None) -> Response:
    """Queue a clip: it is planned first, and refused at once if it cannot be made."""
    body = await read_json(request)

    def accept() -> Job:
        return here.intake.accept(read_wish(body, here), key=idempotency_key)

    job = await to_thread.run_sync(accept, limiter=here.turns)
    return answer(job_object(job), status=201, headers={"location": f"/api/v1/jobs/{job.id}"})


@router.post("/plan", response_model=PlanAnswer, openapi_extra=_BODY)
async def plan_job(here: Here, request: Request) -> Response:
    """What would be made of a request here, what it would take, and which wishes would be changed; queues nothing."""
    body = await read_json(request)
    fields = {name: value for name, value in body.items() if name not in ("priority", "webhook")}
    plan = await to_thread.run_sync(lambda: here.intake.plan(read_fields(fields, here)), limiter=here.turns)
    return answer({"plan": plan.as_dict()})


@router.get("/jobs", response_model=JobList)
def list_jobs(
    here: Here,
    *,
    after: Annotated[str | None, Query(max_length=100, description="The last id of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    order: Literal["asc", "desc"] = "desc",
    status: Status | None = None,
) -> Response:
    """All jobs, the newest first, or those of one status."""
    page = here.store.list(limit=limit, after=after, newest_first=order == "desc", status=status)
    last = page.jobs[-1].id if page.jobs else None
    data = [job_object(job) for job in page.jobs]
    return answer({"object": "list", "data": data, "last_id": last, "has_more": page.has_more})


@router.get("/queue", response_model=Queue)
def show_queue(here: Here, *, limit: Annotated[int, Query(ge=1, le=500)] = 100) -> Response:
    """What will be run, in that order, and how many jobs there are of each status."""
    jobs = here.store.queue(limit=limit)
    return answer({"object": "queue", "data": [job_object(job) for job in jobs], "counts": here.store.counts()})


@router.get("/jobs/{job_id}", response_model=JobObject)
def show_job(here: Here, job_id: JobId) -> Response:
    """All that is known of a job."""
    return answer(job_object(here.store.get(job_id)))


@router.delete("/jobs/{job_id}", response_model=VideoDeleted)
def delete_job(here: Here, job_id: JobId) -> Response:
    """Forget a job and remove its files; one in work is cancelled first."""
    return answer({"id": job_id, "object": "video.deleted", "deleted": remove_job(here, job_id)})


@router.get("/jobs/{job_id}/preview", response_class=Response, responses={200: {"content": {"image/webp": {}}}})
def show_preview(here: Here, request: Request, job_id: JobId) -> Response:
    """What a clip in work looks like so far, small and moving."""
    return preview_answer(request, here, here.store.get(job_id))


@router.post("/jobs/{job_id}/pause", response_model=JobObject)
def pause_job(here: Here, job_id: JobId) -> Response:
    """Stop after the present step and free the GPU; what is done is kept."""
    return answer(job_object(here.store.pause(job_id)))


@router.post("/jobs/{job_id}/resume", response_model=JobObject)
def resume_job(here: Here, job_id: JobId) -> Response:
    """Go on where it was paused."""
    return answer(job_object(here.store.resume(job_id)))


@router.post("/jobs/{job_id}/cancel", response_model=JobObject)
def cancel_job(here: Here, job_id: JobId) -> Response:
    """Stop for good: a queued job never starts, one in work ends within a step, and leaves no clip."""
    return answer(job_object(here.store.cancel(job_id)))


@router.post("/jobs/{job_id}/retry", response_model=JobObject)
def retry_job(here: Here, job_id: JobId) -> Response:
    """Queue a failed or cancelled job again."""
    return answer(job_object(here.store.retry(job_id)))


@router.post("/jobs/{job_id}/move", response_model=JobObject, openapi_extra=_json(_MOVE))
async def move_job(here: Here, request: Request, job_id: JobId) -> Response:
    """Put a waiting job right before or after another, or first or last of all."""
    body = await read_json(request)
    if len(body) != 1 or not set(body) <= {"before", "after", "to"} or not isinstance(next(iter(body.values())), str):
        raise InvalidRequest('say where to: {"before": ID}, {"after": ID} or {"to": "first"} or "last"', field="to")
    if "to" in body and body["to"] not in ("first", "last"):
        raise InvalidRequest("to: give first or last", field="to")
    return answer(job_object(await to_thread.run_sync(lambda: here.store.move(job_id, **body))))


@router.post("/jobs/{job_id}/priority", response_model=JobObject, openapi_extra=_json(_PRIORITY))
async def set_priority(here: Here, request: Request, job_id: JobId) -> Response:
    """Change a waiting job's priority; higher goes first."""
    body = await read_json(request)
    number = body.get("priority")
    if set(body) != {"priority"} or isinstance(number, bool) or not isinstance(number, int):
        raise InvalidRequest('give {"priority": a whole number}', field="priority")
    return answer(job_object(await to_thread.run_sync(here.store.set_priority, job_id, number)))


@router.get("/schema", response_class=Response, responses={200: {"content": {"application/json": {}}}})
def show_schema() -> Response:
    """The request as JSON Schema."""
    return answer(request_schema())
