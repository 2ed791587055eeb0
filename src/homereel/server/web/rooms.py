"""What the studio's routes work with beside the server's parts."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from homereel.server.web.pulls import Pulls
from homereel.server.web.shelf import Shelf


async def _shelf(request: Request) -> Shelf:
    shelf: Shelf = request.app.state.shelf
    return shelf


async def _pulls(request: Request) -> Pulls:
    pulls: Pulls = request.app.state.pulls
    return pulls


OnShelf = Annotated[Shelf, Depends(_shelf)]
Pulling = Annotated[Pulls, Depends(_pulls)]
