"""Whether the server is well: a word for whoever watches it, and its workers for its owner."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import Response

from homereel import __version__
from homereel.server.errors import answer
from homereel.server.parts import Here

router = APIRouter(tags=["server"])


class Health(BaseModel):
    """That it answers."""

    status: Literal["ok"]
    version: str


class ServerStatus(BaseModel):
    """How its workers are, and how many jobs there are of each status."""

    version: str
    offline: bool
    workers: list[dict[str, Any]]
    problem: str | None
    counts: dict[str, int]


@router.get("/health", response_model=Health)
def show_health() -> Response:
    """That the server answers; needs no token."""
    return answer({"status": "ok", "version": __version__})


@router.get("/api/v1/status", response_model=ServerStatus)
def show_status(here: Here) -> Response:
    """The workers beside this server, and how much there is to do."""
    launcher = here.launcher
    return answer(
        {
            "version": __version__,
            "offline": here.settings.offline,
            "workers": [] if launcher is None else [asdict(state) for state in launcher.workers()],
            "problem": None if launcher is None else launcher.problem,
            "counts": here.store.counts(),
        }
    )
