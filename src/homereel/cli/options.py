"""Options that commands which have a model make clips share: `homereel exam`, `homereel fidelity`."""

from __future__ import annotations

from typing import Annotated

import typer

MAKING, SHOWN = "How its clips are made", "What to show"

Size = Annotated[
    str | None,
    typer.Option("--size", metavar="SIZE", rich_help_panel=MAKING, help="As for generate, such as 480p or wide."),
]
Steps = Annotated[
    int | None, typer.Option("--steps", metavar="N", rich_help_panel=MAKING, help="By default the model's own.")
]
Guidance = Annotated[
    float | None, typer.Option("--guidance", metavar="G", rich_help_panel=MAKING, help="By default the model's own.")
]
