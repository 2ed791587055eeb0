"""/clips/ID: one clip with its whole recipe, and all that can be made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from homereel.core.errors import HomereelError, UnknownJob
from homereel.server.parts import Here, Parts
from homereel.server.web.estimate import estimate
from homereel.server.web.render import PageRoute, render
from homereel.server.web.rooms import OnShelf
from homereel.server.web.views import Clip, Marks, checked_id, clip_of, file_names
from homereel.server.web.wishes import made, wish_of

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/clips/{job_id}")
def show_clip(here: Here, shelf: OnShelf, request: Request, job_id: str) -> Response:
    """The page."""
    marks = Marks.on(shelf)
    clip = clip_of(here.store.get(checked_id(job_id)), marks)
    return render(
        request,
        "clip.html",
        page="library",
        clip=clip,
        recipe=list(_recipe(clip)),
        request_fields=file_names(clip.job.request),
        parent=_parent(here, clip, marks),
    )


@router.get("/studio/jobs/{job_id}/costs")
def show_costs(here: Here, shelf: OnShelf, request: Request, job_id: str) -> Response:
    """What refining, enlarging and extending it would take; a way that its model has not is told with the reason."""
    from homereel import workflows

    job = here.store.get(checked_id(job_id))
    ways: dict[str, Any] = {}
    steps: tuple[tuple[str, Callable[[], workflows.Step]], ...] = (
        ("refine", lambda: workflows.refine(made(job))),
        ("enlarge", lambda: workflows.upscale(made(job))),
        ("extend", lambda: workflows.extend(made(job))),
    )
    for name, step in steps:
        try:
            plan = here.intake.plan(wish_of(step()).fields).as_dict()
            ways[name] = {"message": "", "plan": plan, "estimate": estimate([plan], shelf.settings())}
        except HomereelError as error:
            ways[name] = {"message": str(error)}
    return render(request, "_costs.html", ways=ways)


def _recipe(clip: Clip) -> Iterator[tuple[str, str]]:
    """In the order in which a person asks."""
    plan, request = clip.plan, clip.job.request
    yield "Prompt", clip.prompt
    yield "Not wanted", str(request.get("negative_prompt") or "")
    yield "Model", clip.job.model
    yield "Made from", ", ".join(clip.made_from)
    yield "Size", f"{clip.size}, {plan.get('num_frames', '?')} frames at {clip.fps:g} fps ({clip.length:.3g} s)"
    for name in ("seed", "steps", "guidance", "shift", "sampler", "dtype", "exactness"):
        yield name.capitalize(), "" if plan.get(name) is None else str(plan[name])
    yield "LoRAs", ", ".join(clip.loras)
    yield "Passes", ", ".join(map(str, plan.get("passes") or ()))
    result = clip.job.result or {}
    yield "SHA-256", str(result.get("sha256", ""))


def _parent(here: Parts, clip: Clip, marks: Marks) -> Clip | None:
    if clip.job.parent is None:
        return None
    try:
        return clip_of(here.store.get(clip.job.parent), marks)
    except UnknownJob:
        return None
