"""`homereel upscale`: more pixels, by the model or by a plain filter, and more frames a second."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from homereel.cli.output import show_json
from homereel.cli.step_options import LOOK, Clip, Json, Output, Prompt, Quality, Quiet, Steps, Strength
from homereel.cli.steps import Making, make_steps, new_file
from homereel.core.errors import InvalidRequest

EXAMPLES = """[bold]Examples[/bold]

homereel upscale ball.mp4                         the model makes twice the size, with new detail

homereel upscale ball.mp4 --filter --scale 4      Lanczos, in seconds, without new detail

homereel upscale ball.mp4 --smooth 2              twice the frames a second, along the motion"""


def upscale(
    clip: Clip,
    *,
    scale: Annotated[
        float | None, typer.Option("--scale", metavar="X", rich_help_panel=LOOK, help="Times the sides. By default 2.")
    ] = None,
    by_filter: Annotated[
        bool,
        typer.Option("--filter", metavar="", rich_help_panel=LOOK, help="By a plain filter; for any clip, in seconds."),
    ] = False,
    smooth: Annotated[
        int,
        typer.Option(
            "--smooth",
            min=1,
            max=8,
            metavar="N",
            rich_help_panel=LOOK,
            help="Times the frames a second, drawn in between along the motion. Sides stay unless --scale is given.",
        ),
    ] = 1,
    strength: Strength = None,
    steps: Steps = None,
    prompt: Prompt = None,
    output: Output = None,
    quality: Quality = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a clip larger: its latents are enlarged, and the model makes the detail anew; or by plain filters."""
    target = new_file(output, beside=Path(clip), word="larger")
    if by_filter or smooth > 1:
        if strength is not None or steps is not None or (smooth > 1 and scale is not None and not by_filter):
            raise InvalidRequest(
                "--smooth and --filter ask no model, so --strength and --steps say nothing to them; enlarge with the "
                "model first, then smooth the result",
                field="smooth",
            )
        from homereel.workflows.rework import rework

        done = rework(
            Path(clip),
            target,
            scale=scale or (2.0 if by_filter else 1.0),
            frame_times=smooth,
            quality=quality,
        )
        if as_json:
            show_json({"file": str(done), "files": [str(done)]})
        else:
            print(done)
        return
    from homereel.workflows import upscale as plan_upscale
    from homereel.workflows.run import read_made

    step = plan_upscale(read_made(clip, prompt=prompt), scale=scale or 2.0, strength=strength, steps=steps)
    make_steps([step], {step.name: target}, making=Making(quality=quality, as_json=as_json, quiet=quiet))
