"""/films/ID: clips that play as one film, and the film as one file: of a storyboard's shots, or of any that were
marked in the library.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response

from homereel.core.errors import InvalidRequest, UnknownJob, WrongState
from homereel.jobs.records import new_job_id
from homereel.server.film_routes import MAX_TITLE, film_answer
from homereel.server.films import MAX_CLIPS, Film, skip_frames
from homereel.server.json_body import read_json
from homereel.server.parts import Here, Parts
from homereel.server.web.render import PageRoute, redirect, render
from homereel.server.web.rooms import OnShelf
from homereel.server.web.shelf import Board, Shelf
from homereel.server.web.views import Clip, Marks, checked_id, clips_of, file_words

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@dataclass(frozen=True)
class Reel:
    """A film as far as it is made: all its clips, and of each that is shown how many frames are left out."""

    board: Board
    clips: tuple[Clip, ...]
    cuts: tuple[tuple[Clip, int], ...]

    @property
    def is_done(self) -> bool:
        """Whether it can be played from end to end."""
        return bool(self.cuts) and all(clip.is_done for clip, _ in self.cuts)

    @property
    def num_gone(self) -> int:
        """Clips of it that were deleted."""
        return len(self.board.jobs) - len(self.clips)

    @property
    def seconds(self) -> float:
        """Its length."""
        return sum(clip.length - skip / clip.fps for clip, skip in self.cuts)

    @property
    def has_sound(self) -> bool:
        """Whether any of it is heard."""
        return any((clip.job.result or {}).get("sound_sha256") for clip, _ in self.cuts)


@router.get("/films/{board_id}")
def show_film(here: Here, shelf: OnShelf, request: Request, board_id: str) -> Response:
    """The clips of a film, and the film as far as it is done."""
    return render(request, "film.html", page="storyboard", reel=_reel(here, shelf, board_id))


@router.get("/films/{board_id}/download")
async def download(here: Here, shelf: OnShelf, board_id: str) -> Response:
    """The film as one file."""
    reel = await to_thread.run_sync(_reel, here, shelf, board_id)
    film = await to_thread.run_sync(_join, here, reel, limiter=here.films.turns)
    return film_answer(film, name=file_words(reel.board.title) or "film")


@router.post("/studio/films/{board_id}/join")
async def join(here: Here, shelf: OnShelf, board_id: str) -> Response:
    """Join it, which takes a moment, and then let the browser fetch it."""
    reel = await to_thread.run_sync(_reel, here, shelf, board_id)
    await to_thread.run_sync(_join, here, reel, limiter=here.films.turns)
    return redirect(f"/films/{board_id}/download")


@router.post("/studio/films")
async def make_film(here: Here, shelf: OnShelf, request: Request) -> Response:
    """A film of clips that are there, in the order in which they were marked."""
    body = await read_json(request)
    board = await to_thread.run_sync(_of_marked, here, shelf, body)
    return redirect(f"/films/{board}")


def _of_marked(here: Parts, shelf: Shelf, body: dict[str, Any]) -> str:
    given = body.get("clip", [])
    ids = [str(each) for each in (given if isinstance(given, list) else [given])]
    if not 2 <= len(ids) <= MAX_CLIPS:
        raise InvalidRequest(f"mark 2 to {MAX_CLIPS} clips in the library, in the order of the film", field="clip")
    marks = Marks.on(shelf)
    clips = clips_of(map(checked_id, ids), here.store, marks)
    waiting = next((clip for clip in clips if not clip.is_done), None)
    if waiting is not None:
        raise WrongState(f"{waiting.prompt[:60]!r} is not done yet; wait for it, or leave it out")
    board = new_job_id().replace("video_", "film_")
    title = str(body.get("title", "")).strip()[:MAX_TITLE] or f"{len(clips)} clips, beginning with {clips[0].prompt}"
    shelf.add_board(board, kind="film", title=title[:MAX_TITLE], jobs=[clip.id for clip in clips])
    return board


def _reel(here: Parts, shelf: Shelf, board_id: str) -> Reel:
    board = shelf.board(board_id)
    if board is None or board.kind != "film":
        raise UnknownJob("there is no such film; /storyboard shows those that are there")
    clips = clips_of(board.jobs, here.store, Marks.on(shelf))
    cuts: list[tuple[Clip, int]] = []
    before: str | None = None
    for clip in clips:
        own = clip.job.extra.get("board") == board.id  # a shot that the next one holds is none of the film's pieces
        skip = clip.job.extra.get("film_skip_frames") if own else skip_frames(clip.job, before=before)
        if skip is not None:
            cuts.append((clip, int(skip)))
        before = clip.id
    return Reel(board, tuple(clips), tuple(cuts))


def _join(here: Parts, reel: Reel) -> Film:
    if not reel.is_done:
        raise WrongState("not all shots of this film are done; it can be downloaded as soon as they are")
    return here.films.join([(clip.job, skip) for clip, skip in reel.cuts], title=reel.board.title)
