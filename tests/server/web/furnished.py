"""A studio in which something has happened, for looking at its pages: clips of a drawn ball, a board of drafts with
picks, a queue in every state, a film, tags. No model makes any of it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from homereel.jobs.records import Job, JobError, new_job_id
from homereel.server.intake import Wish
from homereel.server.parts import Parts
from homereel.server.web.shelf import Shelf
from tests.server.web.clips import finish_next

PROMPTS = (
    "a red ball bounces on a green floor",
    "a blue box slides left on a white floor",
    "a yellow star spins on a purple floor at night",
    "a green cone falls on an orange floor, the camera pans left",
)
NAMES = (
    *(
        "create",
        "create-again",
        "drafts",
        "board",
        "queue",
        "library",
        "library-nothing",
        "trash",
        "clip",
        "clip-failed",
    ),
    *("compare", "storyboard", "film", "models", "settings", "machine", "failure"),
)
_COLOURS = ((214, 64, 52), (58, 96, 208), (238, 196, 60), (60, 160, 90))
_FLOORS = ((74, 140, 84), (226, 226, 220), (96, 62, 130), (224, 140, 70))


def furnish(parts: Parts) -> dict[str, str]:
    """Fill it; returns the addresses of pages worth a look, by a name for each."""
    shelf = Shelf(parts.settings.data)
    clips = [_done(parts, prompt, seed=40 + index) for index, prompt in enumerate(PROMPTS)]
    shelf.set_tags(clips[0].id, "ball, favourite")
    shelf.set_tags(clips[2].id, "night")
    board = _board(parts, shelf)
    film = new_job_id().replace("video_", "film_")
    shelf.add_board(film, kind="film", title="A day of small things", jobs=[clip.id for clip in clips[:3]])
    failed = _queue(parts)
    pair = f"/compare?clip={clips[0].id}&clip={clips[1].id}"
    addresses = {
        "create": "/",
        "create-again": f"/?job={clips[2].id}",
        "drafts": "/drafts",
        "board": f"/drafts/{board}",
        "queue": "/queue",
        "library": "/library",
        "library-nothing": "/library?q=zebra",
        "trash": "/library?trash=1",
        "clip": f"/clips/{clips[0].id}",
        "clip-failed": f"/clips/{failed.id}",
        "compare": pair,
        "storyboard": "/storyboard",
        "film": f"/films/{film}",
        "models": "/models",
        "settings": "/settings",
        "machine": "/machine",
        "failure": "/clips/none",
    }
    assert tuple(addresses) == NAMES
    return addresses


def ball(shape: tuple[int, int, int, int], seed: int) -> NDArray[np.uint8]:
    """A disc that bounces over a floor; colours and pace come from the seed."""
    num_frames, height, width, _ = shape
    y, x = np.mgrid[:height, :width]
    horizon, radius = height * 0.7, height / (6 + seed % 3)
    frames = np.zeros(shape, np.uint8)
    for index, frame in enumerate(frames):
        frame[:] = (188, 208, 226)
        frame[y >= horizon] = _FLOORS[seed % 4]
        up = abs(np.sin(np.pi * (index / num_frames * 2 + seed / 7)))
        middle = horizon - radius - up * height * 0.4
        frame[(x - width * (0.3 + 0.1 * (seed % 5))) ** 2 + (y - middle) ** 2 < radius**2] = _COLOURS[seed % 4]
    return frames


def _done(parts: Parts, prompt: str, *, seed: int, board: str | None = None) -> Job:
    extra = {} if board is None else {"board": board}
    parts.intake.accept(Wish({"prompt": prompt, "model": "pocket", "seed": seed}, extra=extra))
    return finish_next(parts, draw=ball)


def _board(parts: Parts, shelf: Shelf) -> str:
    board = new_job_id().replace("video_", "board_")
    jobs = [_done(parts, PROMPTS[2], seed=seed, board=board) for seed in range(8)]
    waiting = parts.intake.accept(
        Wish({"prompt": PROMPTS[2], "model": "pocket", "seed": 8}, extra={"board": board}, priority=-5)
    )
    shelf.add_board(board, kind="drafts", title=PROMPTS[2], jobs=[*(job.id for job in jobs), waiting.id])
    shelf.set_pick(jobs[1].id, "picked")
    shelf.set_pick(jobs[4].id, "picked")
    shelf.set_pick(jobs[2].id, "discarded")
    return board


def _queue(parts: Parts) -> Job:
    """One in work, some that wait, one paused, one cancelled; returns one that failed."""

    def wish(prompt: str, *, priority: int = 0) -> Job:
        return parts.intake.accept(Wish({"prompt": prompt, "model": "pocket", "seed": 5}, priority=priority))

    wish(PROMPTS[1], priority=9)
    lease = parts.store.claim("tester")
    assert lease is not None
    failed = parts.store.fail(
        lease, JobError("out_of_memory", "it needs 9.1 GB and 8 GB are there; try a smaller size")
    )
    wish(PROMPTS[0], priority=9)
    lease = parts.store.claim("tester")
    assert lease is not None
    parts.store.renew(lease, stage="denoise", steps_done=12, num_steps=30, remaining_seconds=41)
    parts.store.pause(wish(PROMPTS[3]).id)
    parts.store.cancel(wish(PROMPTS[2]).id)
    for prompt in PROMPTS[1:4]:
        wish(prompt)
    return failed
