"""How clips are asked for in OpenAI's shape: create, remix, edit, extend."""

from __future__ import annotations

from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Header, Request
from starlette.responses import Response

from homereel.core.errors import InvalidRequest, UnsupportedInput
from homereel.jobs.records import Job, Relation
from homereel.server.attachments import Attachment, as_attachment, map_files
from homereel.server.errors import ErrorAnswer
from homereel.server.intake import Wish
from homereel.server.parts import Here, Parts
from homereel.server.uploads import Upload
from homereel.server.video_body import VideoBody, video_body
from homereel.server.video_form import CREATE, EDIT, EXTEND, REMIX
from homereel.server.video_object import Video, plan_of
from homereel.server.videos import VideoId, shown
from homereel.workflows import Made, extend

router = APIRouter(prefix="/v1/videos", tags=["videos"], responses={"4XX": {"model": ErrorAnswer}})

Key = Annotated[str | None, Header(description="The same key and request give the same job.", max_length=255)]
_VIDEO = frozenset({"video"})


@router.post("", response_model=Video, openapi_extra=CREATE)
async def create_video(here: Here, request: Request, *, idempotency_key: Key = None) -> Response:
    """Ask for a clip. What cannot be made is refused at once, and says why."""
    async with video_body(request, here, reserved=frozenset()) as body:
        return await _accepted(here, body, body.fields, key=idempotency_key)


@router.post("/{video_id}/remix", response_model=Video, openapi_extra=REMIX)
async def remix_video(here: Here, request: Request, video_id: VideoId, *, idempotency_key: Key = None) -> Response:
    """The same clip with another prompt: every setting stays, the seed too, but for what is given anew."""
    async with video_body(request, here, reserved=frozenset()) as body:
        parent = await to_thread.run_sync(here.store.get, video_id)
        fields = {**here.intake.request_of(parent), **body.fields}
        _one_length(fields, body.fields)
        return await _accepted(here, body, fields, key=idempotency_key, parent=parent.id, relation="remix")


@router.post("/edits", response_model=Video, openapi_extra=EDIT)
async def edit_video(here: Here, request: Request, *, idempotency_key: Key = None) -> Response:
    """Make a clip anew from footage, uploaded or made here; needs a model that takes footage."""
    async with video_body(request, here, reserved=_VIDEO) as body:
        clip, parent = await to_thread.run_sync(_source, here, body)
        fields = {**_model_of(parent), **body.fields, "video": clip}
        return await _accepted(here, body, fields, key=idempotency_key, parent=_id(parent), relation="edit")


@router.post("/extensions", response_model=Video, openapi_extra=EXTEND)
async def extend_video(here: Here, request: Request, *, idempotency_key: Key = None) -> Response:
    """Let a clip go on for so many seconds: from its latents if it was made here and the model can, else as footage."""
    async with video_body(request, here, reserved=_VIDEO) as body:
        clip, parent = await to_thread.run_sync(_source, here, body)
        fields = {**_model_of(parent), **body.fields, "video": clip}
        fields = await to_thread.run_sync(_longer, fields, clip, parent)
        return await _accepted(here, body, fields, key=idempotency_key, parent=_id(parent), relation="extension")


async def _accepted(
    here: Parts,
    body: VideoBody,
    fields: dict[str, Any],
    *,
    key: str | None,
    parent: str | None = None,
    relation: Relation | None = None,
) -> Response:
    wish = Wish(fields, parent=parent, relation=relation, notes=tuple(body.notes), keeps_size=True)
    job = await to_thread.run_sync(lambda: here.intake.accept(wish, key=key), limiter=here.turns)
    return shown(job)


def _source(here: Parts, body: VideoBody) -> tuple[Attachment, Job | None]:
    """The footage, and the job that it came from, if it was made here."""
    given = body.files.get("video") or body.values.get("video")
    if isinstance(given, Upload):
        return given.attached(shown="video"), None
    name = given.get("id") if isinstance(given, dict) else given
    if not isinstance(name, str) or not name:
        raise InvalidRequest("video: send a file, or an object with the id of a finished clip", field="video")
    if name.startswith("file_"):
        return here.uploads.find(name, field="video").attached(shown="video"), None
    return here.intake.clip_of(name), here.store.get(name)


def _longer(fields: dict[str, Any], clip: Attachment, parent: Job | None) -> dict[str, Any]:
    """The request for the whole: what is there, and so much more."""
    from homereel.media import probe
    from homereel.models.registry import model_facts, models_for_input

    facts = model_facts(fields.get("model"))
    if parent is not None and "extend" in facts.inputs:
        return _from_latents(fields, parent, seconds=_more_seconds(fields))
    if not {"video", "mask"} <= facts.inputs:
        able = ", ".join(models_for_input("mask")[:4]) or "none known"
        raise UnsupportedInput(f"{facts.model} cannot go on from footage; models that can: {able}", field="model")
    return {**fields, "seconds": _more_seconds(fields) + (probe(clip.path).seconds or 0.0)}


def _from_latents(fields: dict[str, Any], parent: Job, *, seconds: float) -> dict[str, Any]:
    """The same, where nothing goes through the decoder and back; what is given anew replaces the clip's own."""
    made = Made.of_job(parent.id, request=parent.request, plan=plan_of(parent))
    step = extend(made, seconds=seconds, prompt=fields.get("prompt"), model=fields.get("model"))
    given = {name: value for name, value in fields.items() if name not in ("video", "seconds") and value is not None}
    return {**map_files(step.fields(), as_attachment), **given}


def _more_seconds(fields: dict[str, Any]) -> float:
    """Taken out of the fields: how much longer it shall be."""
    try:
        more = float(fields.pop("seconds", ""))
    except (TypeError, ValueError):
        raise InvalidRequest("seconds: say how much longer it shall be, such as 4", field="seconds") from None
    if not 0 < more <= 3_600:
        raise InvalidRequest("seconds: it may go on for more than 0 and at most 3600 seconds", field="seconds")
    return more


def _one_length(fields: dict[str, Any], given: dict[str, Any]) -> None:
    """A length that is given anew replaces the other way to say it."""
    for name, other in (("seconds", "num_frames"), ("num_frames", "seconds")):
        if name in given and other not in given:
            fields.pop(other, None)


def _model_of(parent: Job | None) -> dict[str, Any]:
    return {} if parent is None else {"model": parent.request.get("model")}


def _id(parent: Job | None) -> str | None:
    return None if parent is None else parent.id
