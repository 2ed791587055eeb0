"""/studio/jobs/...: what a click does with a clip: refine, vary, extend, enlarge, make again, tag, trash, delete."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response

from homereel.core.errors import InvalidRequest, UnknownJob, WrongState
from homereel.jobs.records import Job, new_job_id
from homereel.server.errors import answer
from homereel.server.json_body import read_json
from homereel.server.parts import Here, Parts
from homereel.server.videos import remove_job
from homereel.server.web.render import PageRoute, redirect, render
from homereel.server.web.rooms import OnShelf
from homereel.server.web.shelf import Shelf
from homereel.server.web.views import Marks, checked_id, clip_of
from homereel.server.web.wishes import again, made, read_strength, refine_strength, submit, wish_of
from homereel.workflows import Step

router = APIRouter(include_in_schema=False, route_class=PageRoute)

NUM_VARIATIONS = 4


@router.post("/studio/jobs/{job_id}/follow/{what}")
async def follow(here: Here, shelf: OnShelf, request: Request, job_id: str, what: str) -> Response:
    """Queue what comes of a finished clip, linked to it, and open where it can be watched."""
    body = await read_json(request)
    address = await to_thread.run_sync(_follow, here, shelf, job_id, what, body, limiter=here.turns)
    return redirect(address)


@router.post("/studio/boards/{board_id}/refine")
async def refine_picked(here: Here, shelf: OnShelf, request: Request, board_id: str) -> Response:
    """Refine every picked draft of a board, and show them in the queue."""
    body = await read_json(request)

    def run() -> None:
        picks, board = shelf.picks(), shelf.board(board_id)
        ids = [] if board is None else [job for job in board.jobs if picks.get(job) == "picked"]
        done = [job for job in map(here.store.get, ids) if job.status == "completed"]
        if not done:
            raise InvalidRequest("pick a finished draft first: P on the keyboard, or Pick on its card", field="pick")
        steps = [(job, _steps("refine", job, body)) for job in done]
        submit([wish_of(step, parent=job.id) for job, found in steps for step in found], here)

    await to_thread.run_sync(run, limiter=here.turns)
    return redirect("/queue")


@router.post("/studio/jobs/{job_id}/tags")
async def set_tags(here: Here, shelf: OnShelf, request: Request, job_id: str) -> Response:
    """Replace a clip's tags."""
    text = str((await read_json(request)).get("tags", ""))

    def keep() -> Any:
        job = here.store.get(checked_id(job_id))
        shelf.set_tags(job_id, text)
        return clip_of(job, Marks.on(shelf))

    return render(request, "_tags.html", clip=await to_thread.run_sync(keep), saved=True)


@router.post("/studio/jobs/{job_id}/trash")
async def trash(here: Here, shelf: OnShelf, request: Request, job_id: str) -> Response:
    """Put a clip into the trash; it stays on the disk until it is deleted there. With `stay` the page is kept."""
    stays = (await read_json(request)).get("stay") == "yes"

    def keep() -> None:
        job = here.store.get(checked_id(job_id))
        if not job.is_over:
            raise WrongState("it is still to be made: cancel it in the queue first, then put it into the trash")
        shelf.set_trashed(job_id, trashed=True)

    await to_thread.run_sync(keep)
    return answer({}, headers={"hx-refresh": "true"}) if stays else redirect("/library")


@router.post("/studio/jobs/{job_id}/restore")
def restore(here: Here, shelf: OnShelf, job_id: str) -> Response:
    """Take it out again."""
    here.store.get(checked_id(job_id))
    shelf.set_trashed(job_id, trashed=False)
    return redirect("/library?trash=1")


@router.post("/studio/jobs/{job_id}/delete")
def delete(here: Here, shelf: OnShelf, job_id: str) -> Response:
    """Remove a clip that is in the trash, with its files."""
    _delete(here, shelf, [checked_id(job_id)])
    return redirect("/library?trash=1")


@router.post("/studio/trash/empty")
def empty_trash(here: Here, shelf: OnShelf) -> Response:
    """Remove all that is in the trash."""
    _delete(here, shelf, sorted(shelf.trash()))
    return redirect("/library?trash=1")


def _follow(here: Parts, shelf: Shelf, job_id: str, what: str, body: Mapping[str, Any]) -> str:
    job = here.store.get(checked_id(job_id))
    if what == "again":
        submit([again(job, here)], here)
        return "/queue"
    if job.status != "completed":
        raise WrongState(f"this clip is {job.status}; wait until it is done, then go on from it")
    steps = _steps(what, job, body)
    board = new_job_id().replace("video_", "board_") if len(steps) > 1 else None
    jobs = submit([wish_of(step, parent=job_id, board=board) for step in steps], here)
    if board is None:
        return "/queue"
    title = f"variations of {job.request.get('prompt', '')}"
    shelf.add_board(board, kind="drafts", title=title, jobs=[each.id for each in jobs])
    return f"/drafts/{board}"


def _steps(what: str, job: Job, body: Mapping[str, Any]) -> Sequence[Step]:
    from homereel import workflows

    prompt = str(body.get("prompt", "")).strip() or None
    seconds = str(body.get("seconds", "")).strip()
    ways: dict[str, Callable[[], Sequence[Step]]] = {
        "refine": lambda: (workflows.refine(made(job), strength=refine_strength(job, read_strength(body))),),
        "enlarge": lambda: (workflows.upscale(made(job)),),
        "vary": lambda: workflows.vary(made(job), num=NUM_VARIATIONS),
        "extend": lambda: (workflows.extend(made(job), seconds=_seconds(seconds), prompt=prompt),),
    }
    if what not in ways:
        raise InvalidRequest(f"{what[:40]!r} is nothing that is done here; give again, {', '.join(ways)}", field="what")
    return ways[what]()


def _seconds(text: str) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise InvalidRequest(f"seconds: {text[:40]!r} is no number; give one, such as 2", field="seconds") from None


def _delete(here: Parts, shelf: Shelf, ids: Sequence[str]) -> None:
    trash = shelf.trash()
    for job_id in ids:
        if job_id not in trash:
            raise WrongState("put it into the trash first; what lies there can still be taken out")
        with suppress(UnknownJob):  # somebody else was quicker
            remove_job(here, job_id)
        shelf.forget(job_id)
