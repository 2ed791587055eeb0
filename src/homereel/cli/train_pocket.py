"""`homereel train pocket`: the whole recipe of the built-in model, or one stage of it."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from homereel.core.errors import HomereelError, InvalidRequest, Stopped

# One large clip for so many others: it takes five times as long to draw and encode.
LARGE_CLIPS = 5


def train_pocket(
    *,
    folder: Annotated[
        Path, typer.Option("--folder", metavar="FOLDER", help="Where checkpoints, logs and the model go.")
    ] = Path("runs/pocket"),
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", min=0.1, metavar="M", help="How long it may take, over all stages."),
    ] = None,
    stage: Annotated[
        str,
        typer.Option("--stage", metavar="STAGE", help="One stage only, such as transformer or export."),
    ] = "all",
    start_from: Annotated[
        str | None,
        typer.Option("--from", metavar="MODEL", help="Train a model on: pocket itself, or the folder of one like it."),
    ] = None,
    large: Annotated[
        float,
        typer.Option("--large", min=0.0, max=0.9, metavar="SHARE", help="Train so much on clips of 208x208, too."),
    ] = 0.0,
) -> None:
    """Train the built-in model from nothing. Stop it when you like: the same command goes on from there."""
    if find_spec("matplotlib") is None:  # or the first stage would fail at its end, after hours
        raise HomereelError(
            "training draws its losses with matplotlib, which is missing; pip install 'homereel[train]'"
        )
    from homereel.training import pocket

    if stage != "all" and stage not in pocket.STAGES:
        raise InvalidRequest(f"--stage: {stage!r} is no stage; give all, {', '.join(pocket.STAGES)}", field="stage")
    stages = pocket.STAGES if stage == "all" else tuple(name for name in pocket.STAGES if name == stage)
    recipe = pocket.PocketRecipe()
    if minutes is not None:
        recipe = replace(recipe, minutes=minutes)
    if large:
        transformer = replace(recipe.transformer, large_share=large)
        recipe = replace(recipe, transformer=transformer, num_large=recipe.num_clips // LARGE_CLIPS)
    try:
        start = None if start_from is None else _folder_of(start_from)
        made = pocket.train_pocket(folder, recipe=recipe, stages=stages, start_from=start)
    except KeyboardInterrupt:
        raise Stopped("stopped; the same command goes on from the last checkpoint") from None
    print(f"the model is in {made}" if made.is_dir() else f"done; stages of a model are in {folder}")


def _folder_of(model: str) -> Path:
    """The folder of the built-in model, or the one that is named."""
    from homereel.weights.model_folder import packaged_folder

    found = packaged_folder(model)
    path = found.path if found else Path(model).expanduser()
    if not (path / "transformer" / "config.json").is_file():
        raise InvalidRequest(f"--from: {model} is no folder of a trained model; give pocket or such a folder")
    return path
