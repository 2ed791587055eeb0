"""Mounts the studio on the server's app: its pages, its files, and the door for browsers."""

from __future__ import annotations

from fastapi import FastAPI

from homereel.server.settings import Settings
from homereel.server.web import (
    actions,
    board,
    clip,
    compare,
    create,
    files,
    films,
    library,
    machine,
    models,
    queue,
    recipe,
    settings_page,
    sign_in,
    storyboard,
)
from homereel.server.web.door import Door
from homereel.server.web.pulls import Pulls
from homereel.server.web.shelf import Shelf


def mount(app: FastAPI, settings: Settings) -> None:
    """Call it before the app's other routes are added (the studio takes /), and after its guard (the door stands
    before that)."""
    app.state.shelf = Shelf(settings.data)
    app.state.pulls = Pulls()
    pages = (create, board, queue, library, clip, compare, storyboard, films, models, settings_page, machine)
    for part in (files, sign_in, *pages, recipe, actions):
        app.include_router(part.router)


def guard_browsers(app: FastAPI, settings: Settings) -> None:
    """Let a browser that has signed in through a server's token."""
    app.add_middleware(Door, settings=settings)
