"""What the routes of one server work with, made when it starts and let go when it ends."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Request

from homereel.jobs.launcher import Launcher
from homereel.jobs.store import JobStore
from homereel.server.feed import Feed
from homereel.server.films import FilmBox
from homereel.server.intake import Intake
from homereel.server.outbound import Outbound
from homereel.server.settings import Settings
from homereel.server.uploads import UploadBox

# So many requests are planned, copied and queued at a time; others wait without holding a thread.
_AT_A_TIME = 4


@dataclass(frozen=True)
class Parts:
    """One server's parts. `closing` is set as soon as the server is told to end."""

    settings: Settings
    store: JobStore
    uploads: UploadBox
    intake: Intake
    films: FilmBox
    outbound: Outbound
    feed: Feed
    closing: asyncio.Event
    launcher: Launcher | None = None
    turns: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(_AT_A_TIME))


async def _parts(request: Request) -> Parts:  # not awaiting anything, it costs no thread
    parts: Parts = request.app.state.parts
    return parts


Here = Annotated[Parts, Depends(_parts)]
