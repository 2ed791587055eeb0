"""`homereel drafts`: many cheap tries of one wish, and one picture of them all."""

from __future__ import annotations

from typing import Annotated

import typer

from homereel.cli.prompt import read_prompt
from homereel.cli.step_options import LOOK, Folder, Json, Quality, Quiet, Seed, Size, Steps
from homereel.cli.steps import Making, draw_sheet, make_steps, new_folder
from homereel.cli.targets import slug
from homereel.cli.wish import in_options

SHEET = "sheet.png"
EXAMPLES = """[bold]Examples[/bold]

homereel drafts "a red ball bounces on a green floor" --num 9

homereel drafts "a blue box spins" --or "a blue box slides left" --seed 7 -o tries/

homereel refine tries/draft-3.mp4"""


def drafts(
    prompt: Annotated[
        str, typer.Argument(help="What to see, in words; - reads it from standard input.", metavar="PROMPT")
    ],
    *,
    num: Annotated[
        int, typer.Option("--num", "-n", min=1, max=1000, metavar="N", rich_help_panel=LOOK, help="How many seeds.")
    ] = 4,
    variants: Annotated[
        list[str] | None,
        typer.Option(
            "--or", metavar="PROMPT", rich_help_panel=LOOK, help="Other words, with the same seeds. May be given often."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="ID|FOLDER", rich_help_panel=LOOK, help="As for generate."),
    ] = None,
    image: Annotated[
        str | None, typer.Option("--image", metavar="FILE", rich_help_panel=LOOK, help="A picture to begin with.")
    ] = None,
    negative: Annotated[
        str, typer.Option("--negative", metavar="TEXT", rich_help_panel=LOOK, help="What not to see.")
    ] = "",
    size: Size = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", metavar="S", rich_help_panel=LOOK, help="How long each lasts.")
    ] = None,
    seed: Seed = None,
    steps: Steps = None,
    output: Folder = None,
    quality: Quality = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make many cheap tries: other seeds and words, small and in few steps, and one picture of them all.

    `homereel refine` finishes the one that you like; `vary` and `extend` go on from it.
    """
    from homereel.cli.size import read_size
    from homereel.core.errors import InvalidRequest
    from homereel.core.request import Request
    from homereel.models.registry import model_facts
    from homereel.workflows.drafts import drafts as plan_drafts

    given = {
        "model": model,
        "image": image,
        "negative_prompt": negative,
        "seconds": seconds,
        "seed": seed,
    }
    try:
        wish = Request.parse(
            {"prompt": read_prompt(prompt), **{name: value for name, value in given.items() if value is not None}}
        )
        width, height = (None, None)
        if size is not None:
            facts = model_facts(wish.model)
            width, height = read_size(size, grid=facts.grid, defaults=facts.defaults)
        tries = plan_drafts(wish, num=num, prompts=variants or (), width=width, height=height, steps=steps)
    except InvalidRequest as error:
        raise in_options(error) from None
    folder = new_folder(output, name=f"drafts-{slug(wish.prompt)}")
    captions = {step.name: f"{step.name}: seed {step.request.seed}, {step.request.prompt}" for step in tries}
    make_steps(
        tries,
        {step.name: folder / f"{step.name}.mp4" for step in tries},
        making=Making(quality=quality, as_json=as_json, quiet=quiet),
        last=lambda places: {"files": [str(draw_sheet(places, captions, folder / SHEET))]},
    )
