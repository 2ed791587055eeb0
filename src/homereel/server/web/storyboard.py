"""/storyboard: a list of shots with one style and one policy for their seeds becomes clips that play as one film."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response

from homereel.core.errors import HomereelError, InvalidRequest, WrongState
from homereel.jobs.records import Job, new_job_id
from homereel.models.model_list import list_models
from homereel.models.registry import default_model
from homereel.server.intake import Wish
from homereel.server.json_body import read_json
from homereel.server.parts import Here, Parts
from homereel.server.web.render import PageRoute, redirect, render
from homereel.server.web.rooms import OnShelf
from homereel.server.web.shelf import Shelf
from homereel.server.web.views import Marks, clips_of
from homereel.server.web.wishes import wish_of
from homereel.workflows import Step, Storyboard, job_place, storyboard
from homereel.workflows.storyboard import film_cuts

router = APIRouter(include_in_schema=False, route_class=PageRoute)
NUM_EMPTY_SHOTS = 3


@router.get("/storyboard")
def show_storyboard(here: Here, shelf: OnShelf, request: Request) -> Response:
    """The form, and the films that were made."""
    marks = Marks.on(shelf)
    films = [(board, clips_of(board.jobs, here.store, marks)) for board in shelf.boards(kind="film")]
    return render(
        request,
        "storyboard.html",
        page="storyboard",
        models=[model for model in list_models() if model.installed and model.supported],
        chosen=default_model(),
        num_shots=NUM_EMPTY_SHOTS,
        films=[each for each in films if each[1]],
    )


@router.post("/studio/storyboard")
async def make_film(here: Here, shelf: OnShelf, request: Request) -> Response:
    """Queue all shots, each linked to the one that it continues."""
    body = await read_json(request)
    board = await to_thread.run_sync(_make, here, shelf, body, limiter=here.turns)
    return redirect(f"/films/{board}")


def _make(here: Parts, shelf: Shelf, body: Mapping[str, Any]) -> str:
    film = Storyboard.parse(_read(body))
    steps = storyboard(film)
    board = new_job_id().replace("video_", "film_")
    jobs = _submit(here, steps, board=board)
    shelf.add_board(board, kind="film", title=film.title or "a film without a title", jobs=[job.id for job in jobs])
    return board


def _read(body: Mapping[str, Any]) -> dict[str, Any]:
    """The form's rows; a shot without words is left out."""
    prompts, lengths, ways = (_many(body, name) for name in ("shot_prompt", "shot_seconds", "shot_begins"))
    shots: list[dict[str, Any]] = []
    for prompt, seconds, way in zip(prompts, lengths, ways, strict=False):
        if prompt.strip():
            shot: dict[str, Any] = {"prompt": prompt, "continues": way == "continues" and bool(shots)}
            shots.append({**shot, **({"seconds": seconds} if seconds.strip() else {})})
    if not shots:
        raise InvalidRequest("write at least one shot: what is seen in it", field="shot_prompt")
    told = {name: str(body.get(name, "")).strip() for name in ("title", "model", "style", "seed", "seed_policy")}
    settings = {"steps": body["steps"]} if str(body.get("steps", "")).strip() else {}
    return {**{name: value for name, value in told.items() if value}, "settings": settings, "shots": shots}


def _many(body: Mapping[str, Any], name: str) -> list[str]:
    value = body.get(name, [])
    return [str(each) for each in (value if isinstance(value, list) else [value])]


def _submit(here: Parts, steps: tuple[Step, ...], *, board: str) -> list[Job]:
    """In order, since a shot that continues names the job before it. If one is refused, none stays queued."""
    skips = {cut.name: cut.skip_frames for cut in film_cuts(steps)}
    jobs: dict[str, Job] = {}
    try:
        for step in steps:
            jobs[step.name] = here.intake.accept(_wish(step, jobs, board=board, skip=skips.get(step.name)))
    except HomereelError:
        for job in jobs.values():
            try:
                here.store.cancel(job.id)
            except WrongState:  # it was quick
                continue
        raise
    return list(jobs.values())


def _wish(step: Step, jobs: Mapping[str, Job], *, board: str, skip: int | None) -> Wish:
    parent = jobs[step.parent].id if step.parent else None
    settled = step if parent is None else _from_job(step, parent)
    wish = wish_of(settled, parent=parent, board=board)
    extra = {**wish.extra, **({} if skip is None else {"film_skip_frames": skip})}
    return Wish(wish.fields, parent=wish.parent, relation=wish.relation, notes=wish.notes, extra=extra)


def _from_job(step: Step, parent: str) -> Step:
    from dataclasses import replace

    return replace(step, request=step.request_from(job_place(parent)))
