"""`homereel train sparse`: tune a model to sparse attention."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from homereel.cli.size import read_size
from homereel.cli.training import check_plots, resumable
from homereel.core.errors import InvalidRequest


def train_sparse(
    *,
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="ID|FOLDER", help="The model to tune; it is not changed.")
    ] = "pocket",
    folder: Annotated[
        Path, typer.Option("--folder", metavar="FOLDER", help="Where everything goes; the model is FOLDER/sparse.")
    ] = Path("runs/sparse"),
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0.1, metavar="M", help="How long the tuning may take.")
    ] = None,
    ratio: Annotated[
        float | None,
        typer.Option(
            "--ratio", min=0.001, max=1.0, metavar="R", help="The share of blocks that is kept, 0.15 usually."
        ),
    ] = None,
    first_layers: Annotated[
        int | None,
        typer.Option("--first-layers", min=0, metavar="N", help="So many layers stay dense, 1 usually."),
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(
            "--order", metavar="ORDER", help="How tokens follow each other, as in the pass: thw usually, or wth."
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="WxH", help="Clips to tune on, such as 208x208; the model's own by default."),
    ] = None,
    clips: Annotated[
        Path | None,
        typer.Option(
            "--clips", metavar="FOLDER", help="Folder of `train distill` or `train pocket` whose clips are used."
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", metavar="FILE", help="Prompts for new clips, one a line; pocket needs none."),
    ] = None,
    shared: Annotated[
        bool, typer.Option("--shared", metavar="", help="Share the network out among GPUs (FSDP2).")
    ] = False,
) -> None:
    """Tune a model so that sparse attention tells what full attention does: for clips of many tokens.

    The tuned model is FOLDER/sparse; its card says that its clips are made so. `homereel train merge` puts the tuning
    into a student.
    """
    check_plots()
    from homereel.training.distillation.recipe import Size
    from homereel.training.sparse_tuning import default_sparse_recipe, tune_sparse

    if clips is not None and not any((clips / part).is_dir() for part in ("trajectories", "cache")):
        raise InvalidRequest(
            f"--clips: {clips} holds no clips; give a folder of `train distill`, or of `train pocket`", field="clips"
        )
    if prompts is not None and not prompts.is_file():
        raise InvalidRequest(f"--prompts: {prompts} is no file; give one with a prompt a line", field="prompts")
    recipe = default_sparse_recipe(model)
    if minutes is not None:
        recipe = replace(recipe, minutes=minutes)
    if ratio is not None:
        recipe = replace(recipe, ratio=ratio)
    if first_layers is not None:
        recipe = replace(recipe, first_layers=first_layers)
    if order is not None:
        recipe = replace(recipe, order=order)
    if size is not None:
        from homereel.models.registry import model_facts

        facts = model_facts(model)
        width, height = read_size(size, grid=facts.grid, defaults=facts.defaults)
        recipe = replace(recipe, size=Size(width, height, facts.defaults.num_frames))
    with resumable():
        made = tune_sparse(model, folder, recipe=recipe, clips=clips, prompts=prompts, shared=shared)
    print(f"the tuned model is in {made}")
