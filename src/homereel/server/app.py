"""Puts the server together: one app for its settings, with its parts made when it starts and let go when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from anyio import to_thread
from fastapi import FastAPI

from homereel import __version__
from homereel.core.errors import UnknownJob
from homereel.jobs.blobs import sweep
from homereel.jobs.launcher import Launcher, LauncherSettings
from homereel.jobs.store import JobStore
from homereel.server import (
    docs_page,
    events,
    film_routes,
    models,
    native,
    status,
    upload_routes,
    video_create,
    videos,
)
from homereel.server.errors import answer_failures
from homereel.server.feed import Feed
from homereel.server.films import FilmBox
from homereel.server.guard import Guard
from homereel.server.intake import Intake
from homereel.server.outbound import Outbound
from homereel.server.parts import Parts
from homereel.server.planner import Planner
from homereel.server.planning_process import PlanningProcess
from homereel.server.settings import Settings
from homereel.server.uploads import UploadBox
from homereel.server.web import studio
from homereel.server.web.render import make_ready
from homereel.server.webhooks import Webhooks

_DESCRIPTION = "Films from words, pictures and footage, made on this machine. /v1/videos is in OpenAI's shape."


def create_app(settings: Settings, *, warm: bool = False, planner: Planner | None = None) -> FastAPI:
    """The app. With `warm` pages and planner get ready behind the first requests; else the first one waits for them.

    Without a `planner`, which is closed with the app, plans are made in a process of their own.
    """
    app = FastAPI(
        title="homereel",
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,  # those pages load scripts from elsewhere; ours is docs_page.py
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan(settings, warm=warm, planner=planner or Planner(PlanningProcess())),
    )
    answer_failures(app)
    studio.mount(app, settings)
    for room in (video_create, videos, native, film_routes, upload_routes, events, models, status, docs_page):
        app.include_router(room.router)
    app.add_middleware(Guard, settings=settings)
    studio.guard_browsers(app, settings)
    return app


def _lifespan(settings: Settings, *, warm: bool, planner: Planner) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            app.state.parts = parts = await _parts(settings, stack, planner=planner)
            ready = (make_ready, planner.warm) if warm else ()
            warming = [asyncio.create_task(to_thread.run_sync(each)) for each in ready]
            yield
            parts.closing.set()
            await parts.feed.stop()
            await to_thread.run_sync(planner.close)
            await asyncio.gather(*warming, return_exceptions=True)

    return lifespan


async def _parts(settings: Settings, stack: AsyncExitStack, *, planner: Planner) -> Parts:
    """Everything that the routes work with; what must be ended is put on the stack, in the order of its making."""
    store = await to_thread.run_sync(_open_store, settings)
    stack.push_async_callback(to_thread.run_sync, store.close)
    outbound = Outbound(allow_private=settings.allow_private)
    if settings.allow_webhooks and not settings.offline:
        webhooks = Webhooks(store, data=settings.data, outbound=outbound)
        webhooks.start()
        stack.push_async_callback(to_thread.run_sync, webhooks.stop)
    launcher = _launcher(settings)
    if launcher is not None:
        await to_thread.run_sync(launcher.start)
        stack.push_async_callback(to_thread.run_sync, partial(launcher.stop))
    closing = asyncio.Event()
    uploads = UploadBox(
        settings.data / "uploads",
        max_file_bytes=settings.max_upload_bytes,
        max_all_bytes=settings.max_uploads_bytes,
    )
    await to_thread.run_sync(uploads.sweep)
    intake = Intake(store, data=settings.data, planner=planner)
    films = FilmBox(settings.data / "films", intake=intake, is_ending=closing.is_set)
    await to_thread.run_sync(films.sweep)
    return Parts(
        settings=settings,
        store=store,
        uploads=uploads,
        intake=intake,
        films=films,
        outbound=outbound,
        feed=Feed(store, closing=closing, max_followers=settings.max_followers),
        closing=closing,
        launcher=launcher,
    )


def _open_store(settings: Settings) -> JobStore:
    """The store, backed up as it was found, and without what a killed process left beside it."""
    store = JobStore.in_folder(settings.data)

    def is_known(job_id: str) -> bool:
        try:
            store.get(job_id)
        except UnknownJob:
            return False
        return True

    store.back_up()
    sweep(settings.data, is_known=is_known)
    return store


def _launcher(settings: Settings) -> Launcher | None:
    count = len(settings.gpus) or settings.workers
    return Launcher(settings.data, LauncherSettings(count=count, devices=settings.gpus)) if count else None
