"""`homereel train distill`: make a student of a model, which needs a few steps and no guidance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from homereel.cli.training import check_plots, resumable
from homereel.core.errors import InvalidRequest


def train_distill(
    *,
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="ID|FOLDER", help="The teacher; it is not changed.")
    ] = "pocket",
    folder: Annotated[
        Path, typer.Option("--folder", metavar="FOLDER", help="Where everything goes; the student is FOLDER/student.")
    ] = Path("runs/distill"),
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", min=0.1, metavar="M", help="How long it may take in all; the recipe's by default."),
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="ID|FOLDER", help="Begin with this student's weights, not the teacher's: for other sizes."
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts", metavar="FILE", help="Prompts to learn from, one a line; pocket needs none, others do."
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe", metavar="NAME|FILE", help="pocket, large, or a JSON file that changes some of the recipe."
        ),
    ] = None,
    stage: Annotated[
        str, typer.Option("--stage", metavar="STAGE", help="One stage only: prompts, trajectories or student.")
    ] = "all",
    shared: Annotated[
        bool,
        typer.Option(
            "--shared", metavar="", help="Share the networks out among GPUs (FSDP2), for models too large for one."
        ),
    ] = False,
) -> None:
    """Make a student that needs 1 to 4 steps and no guidance, where its teacher needs 20 to 50 steps of two passes.

    Stop it when you like: the same command goes on from there. The student can be tried from the first checkpoint on,
    with `homereel generate --model FOLDER/student`.

    On several GPUs: torchrun --nproc-per-node 8 -m homereel train distill --shared ...
    """
    check_plots()
    from homereel.models.registry import model_family
    from homereel.training import distill
    from homereel.training.distillation.recipe import RECIPES, read_recipe

    if stage != "all" and stage not in distill.STAGES:
        raise InvalidRequest(f"--stage: {stage!r} is no stage; give all, {', '.join(distill.STAGES)}", field="stage")
    stages = distill.STAGES if stage == "all" else tuple(name for name in distill.STAGES if name == stage)
    if prompts is not None and not prompts.is_file():
        raise InvalidRequest(f"--prompts: {prompts} is no file; give one with a prompt a line", field="prompts")
    chosen = RECIPES[recipe]() if recipe in RECIPES else distill.default_recipe(model_family(model))
    if recipe is not None and recipe not in RECIPES:
        chosen = read_recipe(Path(recipe), base=chosen)
    if minutes is not None:
        chosen = replace(chosen, minutes=minutes)
    with resumable():
        made = distill.distill(
            model, folder, recipe=chosen, prompts=prompts, stages=stages, shared=shared, start_from=start_from
        )
    print(f"the student is in {made}" if (made / "model_index.json").is_file() else f"done; {folder} goes on from here")
