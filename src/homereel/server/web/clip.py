"""/clips/ID: one clip with its whole recipe, and all that can be made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import FileResponse, Response

from homereel.core.errors import HomereelError, UnknownJob
from homereel.jobs.records import Job
from homereel.server.attachments import Attachment
from homereel.server.content import clip_answer
from homereel.server.job_files import attached, find_file, job_and_field
from homereel.server.parts import Here, Parts
from homereel.server.web.estimate import estimate
from homereel.server.web.render import PageRoute, render
from homereel.server.web.rooms import OnShelf
from homereel.server.web.views import Clip, Marks, checked_id, clip_of, file_names
from homereel.server.web.wishes import made, read_strength, refine_strength, wish_of
from homereel.workflows.refine import REFINE_STRENGTH

PICTURES = {".png": "image/png", ".jpeg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif", ".bmp": "image/bmp"}
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
        hint=refine_strength(clip.job, None) or REFINE_STRENGTH,
        recipe=list(_recipe(clip)),
        request_fields=file_names(clip.job.request),
        parent=_parent(here, clip, marks),
    )


@router.get("/clips/{job_id}/download")
def download(here: Here, shelf: OnShelf, request: Request, job_id: str) -> Response:
    """Its file, named by its words."""
    clip = clip_of(here.store.get(checked_id(job_id)), Marks.on(shelf))
    return clip_answer(request, here, clip.job, variant="video", saved_as=clip.file_name)


@router.get("/studio/inputs/{job_id}/{name}")
def show_input(here: Here, job_id: str, name: str) -> Response:
    """A picture that a clip was made from."""
    of_job = job_and_field(f"{checked_id(job_id)}/{name}")
    if of_job is None:
        raise UnknownJob("there is no such picture; the clip's page shows what it was made from")
    _, field, index = of_job
    file = attached(find_file(here.store.get(job_id), field, index), here.settings.data)
    kind = PICTURES.get(file.path.suffix) if isinstance(file, Attachment) else None
    if not isinstance(file, Attachment) or kind is None:
        raise UnknownJob("that is no picture; the clip's page shows what it was made from")
    return FileResponse(file.path, media_type=kind, headers={"cache-control": "private, max-age=86400"})


@router.get("/studio/jobs/{job_id}/costs")
def show_costs(
    here: Here, shelf: OnShelf, request: Request, job_id: str, *, strength: Annotated[str, Query(max_length=40)] = ""
) -> Response:
    """What refining, enlarging and extending it would take; a way that its model has not is told with the reason."""
    from homereel import workflows

    job = here.store.get(checked_id(job_id))
    ways: dict[str, Any] = {}
    steps: tuple[tuple[str, Callable[[], workflows.Step]], ...] = (
        ("refine", lambda: workflows.refine(made(job), strength=_strength(job, strength))),
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


def _strength(job: Job, given: str) -> float | None:
    return refine_strength(job, read_strength({"strength": given}))


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
