"""/models: what can be run here, under which licence, how much disk it takes; pull and remove."""

from __future__ import annotations

import shutil

from anyio import to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response

from homereel.core.errors import InvalidRequest
from homereel.models.model_list import ModelInfo, list_models
from homereel.models.registry import default_model
from homereel.server.json_body import read_json
from homereel.server.parts import Here, Parts
from homereel.server.web.machine import fits, known_machine
from homereel.server.web.pulls import Pulls
from homereel.server.web.render import PageRoute, render
from homereel.server.web.rooms import Pulling

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/models")
def show_models(here: Here, pulls: Pulling, request: Request) -> Response:
    """The page."""
    return render(request, "models.html", page="models", context=_lists(here, pulls))


@router.get("/studio/model-list")
def show_list(here: Here, pulls: Pulling, request: Request) -> Response:
    """Its lists, as they are now, with how well each model fits this machine."""
    return render(request, "_models.html", context=_lists(here, pulls, look=True))


@router.post("/studio/pulls")
async def pull(here: Here, pulls: Pulling, request: Request) -> Response:
    """Begin to fetch a model; `accept` says that its licence was read and is accepted."""
    body = await read_json(request)
    model, accepted = str(body.get("model", "")), body.get("accept") == "yes"
    await to_thread.run_sync(_start, here, pulls, model, accepted)
    return await to_thread.run_sync(lambda: render(request, "_models.html", context=_lists(here, pulls, look=True)))


@router.post("/studio/pulls/stop")
async def stop_pull(here: Here, pulls: Pulling, request: Request) -> Response:
    """End a download; what has come is kept."""
    pulls.stop(str((await read_json(request)).get("model", "")))
    return await to_thread.run_sync(lambda: render(request, "_models.html", context=_lists(here, pulls, look=True)))


@router.post("/studio/models/remove")
async def remove_model(here: Here, pulls: Pulling, request: Request) -> Response:
    """Take a fetched model off the disk."""
    from homereel.models.install import remove_pulled

    model = str((await read_json(request)).get("model", ""))
    await to_thread.run_sync(remove_pulled, model)
    return await to_thread.run_sync(lambda: render(request, "_models.html", context=_lists(here, pulls, look=True)))


def _start(here: Parts, pulls: Pulls, model: str, accepted: bool) -> None:
    from homereel.models.accepted import accept, is_accepted
    from homereel.models.install import check_pullable
    from homereel.models.registry import find_card

    card = find_card(model)
    check_pullable(card, anyway=False)
    if here.settings.offline:
        raise InvalidRequest(
            "this server was started with --offline, so nothing is fetched; start it without, or run "
            f"`homereel models pull {card.id}` where there is a network",
            field="model",
        )
    if not is_accepted(card.licence):
        if not accepted:
            raise InvalidRequest(
                f"{card.id} is under the licence {card.licence.name}: read it, then mark that you accept it",
                field="accept",
            )
        accept(card.licence)
    pulls.start(card.id, is_closing=here.closing.is_set)


def _lists(here: Parts, pulls: Pulls, *, look: bool = False) -> dict[str, object]:
    """Models that are here, those that can be fetched, and what only its makers' file can bring."""
    machine = known_machine() if look else None
    all_models = list_models()
    running = {name: each for name, each in pulls.all().items() if not each.is_over or each.error}

    def with_fit(models: list[ModelInfo]) -> list[tuple[ModelInfo, str]]:
        return [(model, fits(model, machine)) for model in models]

    folder = here.settings.data
    return {
        "installed": with_fit([model for model in all_models if model.installed]),
        "families": _families(with_fit([m for m in all_models if not m.installed and m.supported and not m.pickled])),
        "elsewhere": with_fit([m for m in all_models if not m.installed and (m.pickled or not m.supported)]),
        "pulls": running,
        "pulling": list(running),
        "is_pulling": any(not each.is_over for each in running.values()),
        "default": default_model(),
        "free_bytes": shutil.disk_usage(folder if folder.is_dir() else folder.anchor).free,
        "offline": here.settings.offline,
    }


def _families(models: list[tuple[ModelInfo, str]]) -> list[tuple[str, list[tuple[ModelInfo, str]]]]:
    """The same under the names that their titles begin with."""
    found: dict[str, list[tuple[ModelInfo, str]]] = {}
    for model, fit in models:
        found.setdefault(model.title.partition(",")[0], []).append((model, fit))
    return list(found.items())
