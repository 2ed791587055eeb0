"""/: say what to see, watch the plan follow, draft many or make one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from homereel.core.errors import HomereelError
from homereel.jobs.records import new_job_id
from homereel.models.model_list import list_models
from homereel.models.registry import default_model
from homereel.server.intake import Wish
from homereel.server.json_body import read_json
from homereel.server.parts import Here, Parts
from homereel.server.web.estimate import Estimate, estimate
from homereel.server.web.machine import fits, known_machine
from homereel.server.web.prefill import Prefill, prefill
from homereel.server.web.render import PageRoute, redirect, render
from homereel.server.web.rooms import OnShelf
from homereel.server.web.shelf import Shelf
from homereel.server.web.views import Clip, Marks, clip_of
from homereel.server.web.wishes import (
    SHOT_FIELDS,
    DraftWish,
    draft_wishes,
    read_count,
    read_create,
    read_draft,
    refined_draft,
    submit,
    words_of_shot,
)
from homereel.workflows.refine import REFINE_STRENGTH

router = APIRouter(include_in_schema=False, route_class=PageRoute)

NUM_RECENT = 4
_SHOT_HINTS = {
    "subject": "a red ball",
    "action": "bounces",
    "scene": "on a green floor",
    "camera": "the camera pans left",
    "lens": "35 mm, close",
    "light": "at night",
    "style": "cinematic",
    "sound": "soft thuds",
}


@router.get("/")
def show_create(
    here: Here,
    shelf: OnShelf,
    request: Request,
    *,
    job: Annotated[str | None, Query(max_length=100)] = None,
    upload: Annotated[str | None, Query(max_length=100)] = None,
) -> Response:
    """The page; with `job` or `upload` it holds the settings of that clip."""
    given = prefill(here, job=job, upload=upload) if job or upload else Prefill()
    models = [model for model in list_models() if model.installed and model.supported]
    chosen = given.fields.get("model") or default_model()
    return render(
        request,
        "create.html",
        page="create",
        given=given,
        models=models,
        chosen=chosen,
        examples=next((model.examples for model in models if model.id == chosen), ()),
        words=next((model.words for model in models if model.id == chosen), {}),
        refine_strength=REFINE_STRENGTH,
        shot_fields=[(name, _SHOT_HINTS[name]) for name in SHOT_FIELDS],
        clips=_recent(here, shelf),
    )


@router.get("/studio/recent")
def show_recent(here: Here, shelf: OnShelf, request: Request) -> Response:
    """The newest clips, below the form."""
    return render(request, "_recent.html", clips=_recent(here, shelf))


@router.get("/studio/models")
def show_model_choice(request: Request, *, chosen: Annotated[str, Query(max_length=1000)] = "") -> Response:
    """The choice of models with what fits this machine; it comes behind the page, since looking takes a moment."""
    machine = known_machine()
    models = [model for model in list_models() if model.supported]
    here = [(model, fits(model, machine)) for model in models if model.installed]
    others = [(model, fits(model, machine)) for model in models if not model.installed]
    return render(request, "_models_choice.html", here=here, others=others, chosen=chosen)


@router.post("/studio/plan")
async def show_plan(here: Here, shelf: OnShelf, request: Request) -> Response:
    """What the form's wish would take, as one clip and as boards of drafts; a wrong field is told of here, too."""
    body = await read_json(request)
    return await to_thread.run_sync(_plan, here, shelf, request, body, limiter=here.turns)


@router.post("/studio/words")
async def show_words(request: Request) -> Response:
    """The prompt that the parts of a shot make."""
    body = await read_json(request)
    shot = {name: str(body.get(f"shot_{name}", "")).strip() for name in SHOT_FIELDS}
    model = str(body.get("model", "")) or None
    text = await to_thread.run_sync(lambda: words_of_shot(shot, model=model))
    return render(request, "_prompt.html", text=text)


@router.post("/studio/create")
async def create(here: Here, shelf: OnShelf, request: Request) -> Response:
    """Queue one clip; or, with `drafts`, a board of them, which is opened."""
    body = await read_json(request)
    board = await to_thread.run_sync(_submit, here, shelf, body, limiter=here.turns)
    if board is not None:
        return redirect(f"/drafts/{board}")
    recent = await to_thread.run_sync(_recent, here, shelf)
    return render(request, "_recent.html", clips=recent)


def _submit(here: Parts, shelf: Shelf, body: Mapping[str, Any]) -> str | None:
    fields = read_create(body, here)
    if not body.get("drafts"):
        submit([Wish(fields)], here)
        return None
    board = new_job_id().replace("video_", "board_")
    jobs = submit(draft_wishes(fields, num=read_count(body), board=board, how=read_draft(body)), here)
    shelf.add_board(board, kind="drafts", title=str(fields["prompt"]), jobs=[job.id for job in jobs])
    return board


def _plan(here: Parts, shelf: Shelf, request: Request, body: Mapping[str, Any]) -> Response:
    try:
        fields = read_create(body, here)
        plan = here.intake.plan(fields).as_dict()
        how = read_draft(body)
        drafted = here.intake.plan(draft_wishes(fields, num=1, board="", how=how)[0].fields).as_dict()
    except HomereelError as error:
        return render(request, "_plan.html", plan=None, message=str(error), field=getattr(error, "field", ""))
    settings = shelf.settings()
    counts = {count: estimate([drafted] * count, settings) for count in (4, 9, 16)}
    return render(
        request,
        "_plan.html",
        plan=plan,
        drafted=drafted,
        one=estimate([plan], settings),
        counts=counts,
        refined=_refined(here, fields, how, settings),
        message="",
    )


def _refined(here: Parts, fields: Mapping[str, Any], how: DraftWish, settings: Mapping[str, str]) -> Estimate | None:
    """What refining one draft takes; None where the model cannot, which the board then tells."""
    try:
        return estimate([here.intake.plan(refined_draft(fields, how).fields).as_dict()], settings)
    except HomereelError:
        return None


def _recent(here: Parts, shelf: Shelf) -> list[Clip]:
    """The newest clips that are no drafts and not in the trash."""
    marks, found = Marks.on(shelf), []
    for job in here.store.list(limit=50).jobs:
        if not job.extra.get("board") and job.id not in marks.trash:
            found.append(clip_of(job, marks))
    return found[:NUM_RECENT]
