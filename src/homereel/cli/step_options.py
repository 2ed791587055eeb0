"""Options that the commands of workflows share."""

from __future__ import annotations

from typing import Annotated

import typer

LOOK, FILE, SHOWN = "How to make it", "Where to put it", "What to show"

Clip = Annotated[
    str, typer.Argument(help="A clip: one that homereel made tells all that is needed of it.", metavar="CLIP")
]
Model = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="ID|FOLDER", rich_help_panel=LOOK, help="Another model than the clip's."),
]
Prompt = Annotated[
    str | None,
    typer.Option("--prompt", "-p", metavar="TEXT", rich_help_panel=LOOK, help="Other words than the clip's."),
]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", rich_help_panel=LOOK, help="0 to 4294967295.")]
Steps = Annotated[
    int | None, typer.Option("--steps", metavar="N", rich_help_panel=LOOK, help="By default those that suit it.")
]
Size = Annotated[
    str | None, typer.Option("--size", metavar="SIZE", rich_help_panel=LOOK, help="As for generate: 480p, wide, 96x96.")
]
Strength = Annotated[
    float | None,
    typer.Option("--strength", metavar="S", rich_help_panel=LOOK, help="0 to 1: how much is made anew."),
]
Output = Annotated[
    str | None, typer.Option("--output", "-o", metavar="FILE", rich_help_panel=FILE, help="By default a new file.")
]
Folder = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="FOLDER", rich_help_panel=FILE, help="By default a new folder."),
]
Quality = Annotated[
    int | None, typer.Option("--quality", min=0, max=100, metavar="Q", rich_help_panel=FILE, help="By default 80.")
]
Json = Annotated[
    bool, typer.Option("--json", metavar="", rich_help_panel=SHOWN, help="One JSON object with all that was done.")
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", metavar="", rich_help_panel=SHOWN, help="Only the names of files, and warnings."),
]
