"""`homereel models`: what there is, what is installed; `info` tells of one, `pull` brings it, `rm` takes it away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homereel.cli.models_info import models_info
from homereel.cli.models_pull import models_pull, models_rm, models_scan
from homereel.cli.output import bytes_text, show_json

if TYPE_CHECKING:
    from homereel.models.registry import ModelInfo

models = typer.Typer(name="models", help="Which models there are, and how to get them.", invoke_without_command=True)
models.command("info")(models_info)
models.command("pull")(models_pull)
models.command("rm")(models_rm)
models.command("scan")(models_scan)


@models.callback()
def list_all(
    context: typer.Context,
    *,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="One JSON object with all that is known.")
    ] = False,
) -> None:
    """Which models there are, what each takes, and which are installed."""
    if context.invoked_subcommand is not None:
        return
    from homereel.models.registry import default_model, list_models

    known, default = list_models(), default_model()
    if as_json:
        show_json({"models": [model_dict(model) for model in known], "default": default})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("model", "", "makes", "licence", "size"):
        table.add_column(name, justify="right" if name == "size" else "left", overflow="fold")
    for row in _rows(known, default=default):
        table.add_row(*row)
    Console(markup=False, highlight=False).print(table)
    print("\nhomereel models info ID tells more; homereel models pull ID fetches it.")


def _rows(known: tuple[ModelInfo, ...], *, default: str) -> Iterator[tuple[str, ...]]:
    for model in known:
        tasks = ", ".join(task.removesuffix("-to-video") for task in model.tasks) + " to video"
        licence = model.licence.name + ("" if model.licence.kind == "open" else f" ({model.licence.kind})")
        yield model.id, _state(model, default=default), tasks, licence, bytes_text(model.bytes or 0)


def _state(model: ModelInfo, *, default: str) -> str:
    if model.id == default:
        return "default"
    if not model.supported:
        return "installed, not runnable yet" if model.installed else "not runnable yet"
    return "installed" if model.installed else "not here"


def model_dict(model: ModelInfo) -> dict[str, Any]:
    """One model as JSON would have it."""
    return {**asdict(model), "licence": model.licence.model_dump(), "defaults": model.defaults.model_dump()}
