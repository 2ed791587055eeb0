"""`homereel models`: what there is, what is installed; `homereel models info` tells of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homereel.cli.models_info import models_info
from homereel.cli.output import bytes_text, show_json

if TYPE_CHECKING:
    from homereel.models.registry import ModelInfo

models = typer.Typer(name="models", help="Which models there are, and what each can do.", invoke_without_command=True)
models.command("info")(models_info)


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
    print("\nhomereel models info ID tells more.")


def _rows(known: tuple[ModelInfo, ...], *, default: str) -> Iterator[tuple[str, ...]]:
    for model in known:
        state = "default" if model.id == default else "installed" if model.installed else "not here"
        tasks = ", ".join(task.removesuffix("-to-video") for task in model.tasks) + " to video"
        licence = model.licence.name + ("" if model.licence.kind == "open" else f" ({model.licence.kind})")
        yield model.id, state, tasks, licence, bytes_text(model.bytes)


def model_dict(model: ModelInfo) -> dict[str, Any]:
    """One model as JSON would have it."""
    return {**asdict(model), "licence": model.licence.model_dump()}
