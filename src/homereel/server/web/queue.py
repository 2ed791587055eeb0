"""/queue: what is in work, what waits in its order, what is paused, what failed."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from starlette.responses import Response

from homereel.server.parts import Here, Parts
from homereel.server.web.render import PageRoute, render
from homereel.server.web.rooms import OnShelf
from homereel.server.web.shelf import Shelf
from homereel.server.web.views import Clip, Marks, clip_of

router = APIRouter(include_in_schema=False, route_class=PageRoute)
_FEW, _MANY = 10, 200


@router.get("/queue")
def show_queue(here: Here, shelf: OnShelf, request: Request) -> Response:
    """The page."""
    return render(request, "queue.html", page="queue", context=_lists(here, shelf))


@router.get("/studio/queue")
def show_lists(here: Here, shelf: OnShelf, request: Request) -> Response:
    """Its lists alone, as they are now."""
    return render(request, "_queue.html", context=_lists(here, shelf))


@router.post("/studio/jobs/{job_id}/move/{way}")
def move_by_one(here: Here, shelf: OnShelf, request: Request, job_id: str, way: Literal["up", "down"]) -> Response:
    """Let a waiting clip and its neighbour change places; the answer is the new order."""
    ids = [job.id for job in here.store.queue(limit=_MANY)]
    if job_id in ids:
        at = ids.index(job_id)
        if way == "up" and at > 0:
            here.store.move(job_id, before=ids[at - 1])
        if way == "down" and at + 1 < len(ids):
            here.store.move(job_id, after=ids[at + 1])
    return show_lists(here, shelf, request)


def _lists(here: Parts, shelf: Shelf) -> dict[str, object]:
    marks, store = Marks.on(shelf), here.store

    def of(status: str, most: int) -> list[Clip]:
        return [clip_of(job, marks) for job in store.list(limit=most, status=status).jobs]  # type: ignore[arg-type]

    waiting = [clip_of(job, marks) for job in store.queue(limit=_MANY)]
    return {
        "running": of("running", _MANY),
        "waiting": waiting,
        "paused": of("paused", _MANY),
        "failed": [clip for clip in of("failed", _FEW) + of("cancelled", _FEW) if not clip.is_trashed],
        "done": of("completed", 4),
        "counts": store.counts(),
        "problem": None if here.launcher is None else here.launcher.problem,
        "has_worker": here.launcher is not None,
        "left_seconds": _left(waiting),
    }


def _left(waiting: list[Clip]) -> float | None:
    """What all that waits will take, if each plan knows."""
    known: list[float | None] = [clip.plan.get("seconds") for clip in waiting]
    told = [float(each) for each in known if each is not None]
    return sum(told) if told and len(told) == len(known) else None
