"""`homereel models pull`, `rm` and `scan`: bring models here, take them away, find files that are here already."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from homereel.cli.output import bytes_text, show_json, tell
from homereel.cli.stop import StopSwitch
from homereel.cli.transfer_bar import show_transfer

if TYPE_CHECKING:
    from homereel.models.card import ModelCard
    from homereel.weights.transfer import Forecast

_Json = Annotated[bool, typer.Option("--json", metavar="", help="One JSON object with what was done.")]
_Id = Annotated[str, typer.Argument(help="A model's id, as in `homereel models`.", metavar="ID")]


def models_pull(
    model: _Id,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Do not ask before a large download.")] = False,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", metavar="", help="You have read the licence and accept it.")
    ] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", metavar="", help="Also a model that this version cannot run yet.")
    ] = False,
    as_json: _Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", metavar="", help="No progress.")] = False,
) -> None:
    """Fetch a model into the cache that it shares with other tools. A cut download goes on where it was."""
    from homereel.models.install import check_pullable, pull_model
    from homereel.models.registry import find_card

    card = find_card(model)
    check_pullable(card, anyway=anyway)
    _settle_licence(card, accept_licence=accept_licence)
    if not yes and _in_terminal():
        _ask_size(card)
    with show_transfer(silent=quiet or as_json) as view:
        switch = StopSwitch(on_asked=_tell_stopping)

        def on_forecast(forecast: Forecast) -> None:
            if not (quiet or as_json):
                view.tell(_forecast_text(card.id, forecast))

        with switch:
            pulled = pull_model(
                card.id,
                anyway=anyway,
                on_forecast=on_forecast,
                on_transfer=view.update,
                on_note=view.tell,
                should_stop=switch,
            )
    if as_json:
        show_json({**asdict(pulled), "licence": card.licence.model_dump()})
        return
    here = "was here already" if not (pulled.fetched_bytes or pulled.reused_bytes) else "is here, checked"
    print(f"{card.id} {here}: {bytes_text(pulled.num_bytes)} in {pulled.path}")


def models_rm(model: _Id, *, as_json: _Json = False) -> None:
    """Take a fetched or imported model away, also for other tools that share the cache."""
    from homereel.models.install import remove_pulled
    from homereel.models.registry import find_card, is_catalogued

    freed = remove_pulled(model)
    name = find_card(model).id if is_catalogued(model) else model
    if as_json:
        show_json({"id": name, "freed_bytes": freed})
        return
    print(f"{name} is gone; {bytes_text(freed) if freed else 'no bytes'} are free again")


def models_scan(
    folder: Annotated[Path, typer.Argument(help="Such as ComfyUI/models.", metavar="DIR")], *, as_json: _Json = False
) -> None:
    """Note the weight files below a folder, so that `models pull` links what it would fetch a second time."""
    from homereel.weights.file_index import scan_folder

    found = scan_folder(folder)
    if as_json:
        show_json({"files": found})
        return
    count = f"{len(found)} weight file{'' if len(found) == 1 else 's'}"
    print(f"{count} below {folder}, {bytes_text(sum(found.values())) if found else 'nothing to reuse'}")


def _tell_stopping() -> None:
    """Called from a signal handler, so past all buffers."""
    os.write(2, b"homereel: stopping; what has come is kept (Ctrl-C again: at once)\n")


def _settle_licence(card: ModelCard, *, accept_licence: bool) -> None:
    """Ask in a terminal; elsewhere `pull_model` refuses, unless --accept-licence was given."""
    from homereel.models.accepted import accept, is_accepted

    licence = card.licence
    if is_accepted(licence):
        return
    asks = not accept_licence and _in_terminal()
    if accept_licence or asks:
        tell(
            f"{card.id} is under the licence {licence.name} ({licence.kind}): {licence.terms}. Its text: {licence.url}"
        )
    if asks:
        accept_licence = typer.confirm("Have you read it, and do you accept it?", abort=True, err=True)
    if accept_licence:
        accept(licence)


def _in_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _ask_size(card: ModelCard) -> None:
    size = f"about {bytes_text(card.download_bytes)}" if card.download_bytes else "a size that only the hub knows"
    typer.confirm(f"Fetch {card.id}, {size}?", default=True, abort=True, err=True)


def _forecast_text(model: str, forecast: Forecast) -> str:
    here = f", {bytes_text(forecast.here_bytes)} are here already" if forecast.here_bytes > 1_000_000 else ""
    return (
        f"{model}: {bytes_text(forecast.fetch_bytes) if forecast.fetch_bytes else 'nothing'} to fetch{here}; "
        f"{bytes_text(forecast.free_bytes)} free in {forecast.folder}"
    )
