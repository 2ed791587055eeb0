"""`homereel train`: the recipes that make models, each a command of its own."""

from __future__ import annotations

import typer

from homereel.cli.train_distill import train_distill
from homereel.cli.train_merge import train_merge
from homereel.cli.train_pocket import train_pocket
from homereel.cli.train_sparse import train_sparse

train = typer.Typer(name="train", help="Train models.", no_args_is_help=True)
train.command("pocket")(train_pocket)
train.command("distill")(train_distill)
train.command("sparse")(train_sparse)
train.command("merge")(train_merge)


@train.callback()
def recipes() -> None:
    """Train models; every recipe goes on where it was stopped."""
