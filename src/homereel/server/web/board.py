"""/drafts: boards of drafts, and one board with its clips side by side: pick, discard, then refine what was picked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from homereel.core.errors import InvalidRequest, UnknownJob
from homereel.server.json_body import read_json
from homereel.server.parts import Here, Parts
from homereel.server.web.estimate import estimate
from homereel.server.web.render import PageRoute, render
from homereel.server.web.rooms import OnShelf
from homereel.server.web.shelf import Board, Shelf
from homereel.server.web.views import Clip, Marks, checked_id, clip_of, clips_of
from homereel.server.web.wishes import made, read_strength, refine_strength, wish_of
from homereel.workflows.refine import REFINE_STRENGTH

router = APIRouter(include_in_schema=False, route_class=PageRoute)
_PICKS = ("picked", "discarded", "")


@router.get("/drafts")
def show_boards(here: Here, shelf: OnShelf, request: Request) -> Response:
    """All boards, the newest first."""
    marks = Marks.on(shelf)
    boards = [(board, clips_of(board.jobs[:4], here.store, marks)) for board in shelf.boards(kind="drafts")]
    return render(request, "boards.html", page="drafts", boards=[each for each in boards if each[1]])


@router.get("/drafts/{board_id}")
def show_board(here: Here, shelf: OnShelf, request: Request, board_id: str) -> Response:
    """One board."""
    board = _board(shelf, board_id)
    clips = clips_of(board.jobs, here.store, Marks.on(shelf))
    return render(request, "board.html", page="drafts", board=board, clips=clips, picked=_picked(clips))


@router.get("/studio/boards/{board_id}/costs")
def show_costs(
    here: Here, shelf: OnShelf, request: Request, board_id: str, *, strength: Annotated[str, Query(max_length=40)] = ""
) -> Response:
    """What can be done with the picked ones, and what refining them takes."""
    clips = clips_of(_board(shelf, board_id).jobs, here.store, Marks.on(shelf))
    picked = _picked(clips)
    done = [clip for clip in picked if clip.is_done]
    return render(
        request,
        "_picked.html",
        board_id=board_id,
        clips=clips,
        picked=picked,
        cost=_cost(here, shelf, done, {"strength": strength}),
        hint=next((refine_strength(clip.job, None) for clip in clips), None) or REFINE_STRENGTH,
    )


@router.get("/studio/cards/{job_id}")
def show_card(here: Here, shelf: OnShelf, request: Request, job_id: str) -> Response:
    """One clip as a card, as it is now."""
    return render(request, "_card.html", clip=clip_of(here.store.get(job_id), Marks.on(shelf)))


@router.post("/studio/jobs/{job_id}/pick")
async def pick(here: Here, shelf: OnShelf, request: Request, job_id: str) -> Response:
    """Pick or discard a draft; the answer is its card."""
    wish = (await read_json(request)).get("pick", "")
    if wish not in _PICKS:
        raise InvalidRequest("pick: give picked, discarded, or nothing to take it back", field="pick")

    def keep() -> Clip:
        job = here.store.get(checked_id(job_id))
        shelf.set_pick(job_id, wish or None)
        return clip_of(job, Marks.on(shelf))

    clip = await to_thread.run_sync(keep)
    response = render(request, "_card.html", clip=clip)
    response.headers["hx-trigger"] = "picks-changed"
    return response


def _board(shelf: Shelf, board_id: str) -> Board:
    board = shelf.board(board_id)
    if board is None:
        raise UnknownJob("there is no such board; its drafts may have been deleted. /drafts shows those that are there")
    return board


def _picked(clips: Sequence[Clip]) -> list[Clip]:
    return [clip for clip in clips if clip.pick == "picked"]


def _cost(here: Parts, shelf: Shelf, picked: Sequence[Clip], body: Mapping[str, Any]) -> dict[str, Any] | None:
    """What refining these takes; None if there are none, and with the reason if it cannot be done."""
    from homereel.core.errors import HomereelError
    from homereel.workflows import refine

    if not picked:
        return None
    try:
        given = read_strength(body)
        steps = [refine(made(clip.job), strength=refine_strength(clip.job, given)) for clip in picked]
        plans = [here.intake.plan(wish_of(step).fields).as_dict() for step in steps]
    except HomereelError as error:
        return {"message": str(error)}
    return {"message": "", "plan": plans[0], "estimate": estimate(plans, shelf.settings())}
