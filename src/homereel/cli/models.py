"""`homereel models`: what there is, what is installed; `info` tells of one, `pull` brings it, `rm` takes it away."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homereel.cli.models_import import models_import
from homereel.cli.models_info import models_info
from homereel.cli.models_pull import models_pull, models_rm, models_scan
from homereel.cli.output import bytes_text, show_json

if TYPE_CHECKING:
    from homereel.models.model_list import ModelInfo

_NOT_YET = "not yet"
_BY_IMPORT = "by import"
_PIPE_WIDTH = 120  # a file or a pipe has no width of its own

models = typer.Typer(name="models", help="Which models there are, and how to get them.", invoke_without_command=True)
models.command("info")(models_info)
models.command("pull")(models_pull)
models.command("rm")(models_rm)
models.command("scan")(models_scan)
models.command("import")(models_import)


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
    from homereel.models.model_list import list_models
    from homereel.models.registry import default_model

    known, default = list_models(), default_model()
    if as_json:
        show_json({"models": [model_dict(model) for model in known], "default": default})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("model", "", "from", "licence", "size"):
        whole = name in ("model", "size")
        table.add_column(name, justify="right" if name == "size" else "left", overflow="fold", no_wrap=whole)
    for row in _rows(known, default=default):
        table.add_row(*row)
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    Console(markup=False, highlight=False, width=width).print(table)
    print(f"\n{_NOT_YET}: this version cannot run it. homereel models info ID tells more, models pull ID fetches one.")
    print(f"{_BY_IMPORT}: its .pth is on the hub, and homereel models import FILE makes a model of it.")


def _rows(known: tuple[ModelInfo, ...], *, default: str) -> Iterator[tuple[str, ...]]:
    """Those that can be run come first."""
    for model in sorted(known, key=lambda model: not model.supported):
        tasks = ", ".join(task.removesuffix("-to-video") for task in model.tasks)
        yield model.id, _state(model, default=default), tasks, model.licence.kind, bytes_text(model.bytes or 0)


def _state(model: ModelInfo, *, default: str) -> str:
    if model.id == default:
        return "default"
    state = "installed" if model.installed else "not here"
    if model.supported:
        return state
    if model.pickled:
        return _BY_IMPORT
    return f"installed, {_NOT_YET}" if model.installed else _NOT_YET


def model_dict(model: ModelInfo) -> dict[str, Any]:
    """One model as JSON would have it."""
    return {**asdict(model), "licence": model.licence.model_dump(), "defaults": model.defaults.model_dump()}
