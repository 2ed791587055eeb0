"""`homereel train`: the recipes that make models, each a command of its own."""

from __future__ import annotations

import typer

from homereel.cli.train_pocket import train_pocket

train = typer.Typer(name="train", help="Train models.", no_args_is_help=True)
train.command("pocket")(train_pocket)


@train.callback()
def recipes() -> None:
    """Train models; every recipe goes on where it was stopped."""
