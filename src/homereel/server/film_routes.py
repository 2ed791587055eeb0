"""/api/v1/films: finished clips as one file, with their sound and the recipe of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Path, Request
from pydantic import BaseModel
from starlette.responses import FileResponse, Response

from homereel.core.errors import InvalidRequest
from homereel.jobs.records import Job
from homereel.server.errors import ErrorAnswer, answer
from homereel.server.films import MAX_CLIPS, Film, skip_frames
from homereel.server.json_body import read_json
from homereel.server.parts import Here, Parts

router = APIRouter(prefix="/api/v1/films", tags=["films"], responses={"4XX": {"model": ErrorAnswer}})

FilmId = Annotated[str, Path(description="The film's id: film_ and 32 hexadecimal digits.")]
MAX_TITLE = 200
_BODY = {
    "type": "object",
    "properties": {
        "clips": {
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_CLIPS,
            "items": {"type": "string"},
            "description": "Ids of finished clips of one size and pace, in their order.",
        },
        "title": {"type": "string", "maxLength": MAX_TITLE},
    },
    "required": ["clips"],
    "additionalProperties": False,
}


class FilmObject(BaseModel):
    """One joined file. It is kept for a day; the same clips give the same film again."""

    id: str
    object: Literal["film"]
    bytes: int
    width: int
    height: int
    num_frames: int
    fps: float
    seconds: float
    has_sound: bool
    links: dict[str, str]


@router.post(
    "",
    response_model=FilmObject,
    status_code=201,
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _BODY}}}},
)
async def join_film(here: Here, request: Request) -> Response:
    """Join finished clips with cuts: clips without sound are silent in a film that has some."""
    body = await read_json(request)
    film = await to_thread.run_sync(_join, here, body, limiter=here.films.turns)
    told = await to_thread.run_sync(film.as_dict)
    return answer(told, status=201, headers={"location": f"/api/v1/films/{film.id}/content"})


@router.get("/{film_id}/content", response_class=Response, responses={200: {"content": {"video/mp4": {}}}})
def download_film(here: Here, film_id: FilmId) -> Response:
    """The film as an mp4; by ranges, if wanted."""
    return film_answer(here.films.find(film_id), name=film_id)


def film_answer(film: Film, *, name: str) -> Response:
    """The file, to be saved under this name."""
    return FileResponse(
        film.path,
        media_type="video/mp4",
        filename=f"{name}.mp4",
        headers={"cache-control": "private, no-cache"},
        content_disposition_type="attachment",
    )


def _join(here: Parts, body: Mapping[str, Any]) -> Film:
    unknown = sorted(set(body) - {"clips", "title"})
    if unknown:
        raise InvalidRequest(f"{unknown[0][:60]!r} is nothing that a film has; give clips, and a title", field="clips")
    ids, title = body.get("clips"), body.get("title", "")
    if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
        raise InvalidRequest('clips: give the ids of finished clips, as {"clips": ["video_...", ...]}', field="clips")
    if not isinstance(title, str) or len(title) > MAX_TITLE:
        raise InvalidRequest(f"title: give a text of at most {MAX_TITLE} characters", field="title")
    if len(ids) > MAX_CLIPS:
        raise InvalidRequest(f"clips: a film is joined of 1 to {MAX_CLIPS}; {len(ids)} were named", field="clips")
    return here.films.join(cuts_of([here.store.get(each) for each in ids]), title=title)


def cuts_of(jobs: list[Job]) -> list[tuple[Job, int]]:
    """Each with how many frames at its start are left out."""
    before = [None, *(job.id for job in jobs)]
    return [(job, skip_frames(job, before=previous)) for job, previous in zip(jobs, before, strict=False)]
