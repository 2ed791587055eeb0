"""`homereel generate`: a prompt in, a film out. The words typed become a Wish; clips.py carries it out."""

from __future__ import annotations

from typing import Annotated

import typer

from homereel.cli.clips import make_clips
from homereel.cli.wish import Wish

EXAMPLES = """[bold]Examples[/bold]

homereel generate "a red ball bounces on a green floor" -o ball.mp4

homereel generate "a blue box spins" --size wide --seconds 3 --seed 7 -o box.gif

homereel generate "a yellow star rolls" --num 4 -o "star-{seed}.mp4" --json

homereel generate - --image first.png < prompt.txt"""

_CLIP, _LOOK, _FILE, _SHOWN = "What to make", "How to make it", "Where to put it", "What to show"


def generate(
    prompt: Annotated[
        str, typer.Argument(help="What to see, in words; - reads it from standard input.", metavar="PROMPT")
    ],
    *,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="ID|FOLDER",
            rich_help_panel=_CLIP,
            help="Which model, see `homereel models`. By default the best one installed.",
        ),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option("--image", metavar="FILE", rich_help_panel=_CLIP, help="A picture to begin with."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            metavar="SIZE",
            rich_help_panel=_CLIP,
            help="256x144, or 144p, 240p, 480p, 720p, 1080p, or square, wide, tall as suits the model.",
        ),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", metavar="S", rich_help_panel=_CLIP, help="How long it lasts.")
    ] = None,
    frames: Annotated[
        int | None, typer.Option("--frames", metavar="N", rich_help_panel=_CLIP, help="The same, in frames.")
    ] = None,
    fps: Annotated[
        float | None, typer.Option("--fps", metavar="F", rich_help_panel=_CLIP, help="Frames shown a second.")
    ] = None,
    num: Annotated[
        int,
        typer.Option(
            "--num",
            "-n",
            min=1,
            max=1000,
            metavar="N",
            rich_help_panel=_CLIP,
            help="How many clips, with seeds one after the other.",
        ),
    ] = 1,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            metavar="N",
            rich_help_panel=_LOOK,
            help="0 to 4294967295: the same seed gives the same clip again. By default a new one.",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", metavar="N", rich_help_panel=_LOOK, help="More take longer, look better."),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            "--guidance",
            metavar="G",
            rich_help_panel=_LOOK,
            help="How closely to keep to the prompt; 1 is twice as fast.",
        ),
    ] = None,
    negative: Annotated[
        str, typer.Option("--negative", metavar="TEXT", rich_help_panel=_LOOK, help="What not to see.")
    ] = "",
    shift: Annotated[
        float | None,
        typer.Option("--shift", metavar="S", rich_help_panel=_LOOK, help="More gives the early steps more weight."),
    ] = None,
    sampler: Annotated[
        str | None, typer.Option("--sampler", metavar="NAME", rich_help_panel=_LOOK, help="unipc or euler.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            rich_help_panel=_FILE,
            help=".mp4, .gif, .webp, .png (a contact sheet), name_%04d.png or a folder/ (frames). "
            "{seed} and {index} are filled in. By default a new file, named after the prompt.",
        ),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(
            "--quality",
            min=0,
            max=100,
            metavar="Q",
            rich_help_panel=_FILE,
            help="0 to 100: more looks better and takes more room. By default 80.",
        ),
    ] = None,
    sidecar: Annotated[
        bool,
        typer.Option(
            "--sidecar", metavar="", rich_help_panel=_FILE, help="Put the recipe beside the file, too, as .json."
        ),
    ] = False,
    private: Annotated[
        bool,
        typer.Option(
            "--private", metavar="", rich_help_panel=_FILE, help="Keep prompt, paths and machine out of the file."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", rich_help_panel=_SHOWN, help="One JSON object with all that was done.")
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", metavar="", rich_help_panel=_SHOWN, help="Only the names of the files, and warnings."
        ),
    ] = False,
) -> None:
    """Make a film from words, and a first picture if you like."""
    wish = Wish(
        prompt=prompt,
        size=size,
        num_clips=num,
        output=output,
        quality=quality,
        sidecar=sidecar,
        private=private,
        fields={
            "model": model,
            "image": image,
            "seconds": seconds,
            "num_frames": frames,
            "fps": fps,
            "seed": seed,
            "steps": steps,
            "guidance": guidance,
            "negative_prompt": negative,
            "shift": shift,
            "sampler": sampler,
        },
    )
    make_clips(wish, as_json=as_json, quiet=quiet)
