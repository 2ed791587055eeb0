"""/settings: where things lie, what electricity costs, how the studio looks."""

from __future__ import annotations

import re

from anyio import to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response

from homereel.core.environment import read_environment
from homereel.core.errors import InvalidRequest
from homereel.server.json_body import read_json
from homereel.server.parts import Here
from homereel.server.web.estimate import number
from homereel.server.web.render import PageRoute, render
from homereel.server.web.rooms import OnShelf

router = APIRouter(include_in_schema=False, route_class=PageRoute)

_NUMBERS = {"price_per_kwh": (0, 100), "watts": (1, 100_000)}
_CURRENCY = re.compile(r"[A-Za-z€$£¥₹]{0,4}")


@router.get("/settings")
def show_settings(here: Here, shelf: OnShelf, request: Request) -> Response:
    """The page."""
    settings = here.settings
    folders = [
        ("Clips and the queue", str(settings.data), "homereel serve --data FOLDER"),
        ("homereel's own files", str(read_environment().home), "HOMEREEL_HOME"),
        ("Models from the hub", _hub_folder(), "HF_HOME"),
    ]
    return render(request, "settings.html", page="settings", folders=folders, values=shelf.settings(), server=settings)


@router.post("/studio/settings")
async def save_settings(shelf: OnShelf, request: Request) -> Response:
    """Keep what was changed. Raises InvalidRequest for what is no figure."""
    body = await read_json(request)
    values = {name: str(body.get(name, "")).strip().replace(",", ".") for name in _NUMBERS}
    for name, (low, high) in _NUMBERS.items():
        figure = number(values[name])
        if values[name] and (figure is None or not low <= figure <= high):
            raise InvalidRequest(f"{name}: give a number from {low} to {high:,}, or leave it empty", field=name)
    currency = str(body.get("currency", "")).strip()
    if not _CURRENCY.fullmatch(currency):
        raise InvalidRequest("currency: give its sign or letters, such as EUR", field="currency")
    values["currency"] = currency
    await to_thread.run_sync(shelf.set_settings, values)
    return render(request, "_saved.html", text="Saved. Plans use it from now on.")


def _hub_folder() -> str:
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)
