"""`homereel generate`: a prompt in, a film out. The words typed become a Wish; clips.py carries it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from homereel.cli.clips import make_clips
from homereel.cli.given import read_keyframes, read_loras
from homereel.cli.limits import MaxRam, MaxVram, PreferWord, read_limits
from homereel.cli.wish import Wish
from homereel.core.errors import InvalidRequest

EXAMPLES = """[bold]Examples[/bold]

homereel generate "a red ball bounces on a green floor" -o ball.mp4

homereel generate "a blue box spins" --size wide --seconds 3 --seed 7 -o box.gif

homereel generate "a yellow star rolls" --num 4 -o "star-{seed}.mp4" --json

homereel generate - --image first.png < prompt.txt

homereel generate "in the style of a woodcut" --video walk.mp4 --strength 0.6"""

_CLIP, _FROM, _LOOK = "What to make", "What to make it from", "How to make it"
_FILE, _SHOWN = "Where to put it", "What to show"


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
        typer.Option("--image", metavar="FILE", rich_help_panel=_FROM, help="A picture to begin with."),
    ] = None,
    last: Annotated[
        str | None,
        typer.Option("--last", metavar="FILE", rich_help_panel=_FROM, help="A picture to end with."),
    ] = None,
    keyframe: Annotated[
        list[str] | None,
        typer.Option(
            "--keyframe",
            metavar="TIME=FILE",
            rich_help_panel=_FROM,
            help="A picture in between, such as 2.0s=mid.png, or 48=mid.png for a frame. May be given often.",
        ),
    ] = None,
    video: Annotated[
        str | None,
        typer.Option("--video", metavar="FILE", rich_help_panel=_FROM, help="Footage to make anew, or to be led by."),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            "--strength",
            metavar="S",
            rich_help_panel=_FROM,
            help="How much of the footage is made anew: 0 to 1. By default 0.7.",
        ),
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(
            "--mask", metavar="FILE", rich_help_panel=_FROM, help="Where it is: white is made anew, black is kept."
        ),
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            "--reference",
            metavar="FILE",
            rich_help_panel=_FROM,
            help="A picture of somebody or something that shall appear. May be given often.",
        ),
    ] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option(
            "--lora",
            metavar="FILE[:S]",
            rich_help_panel=_LOOK,
            help="A LoRA, and how strongly it acts (by default 1). May be given often.",
        ),
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
        str | None,
        typer.Option(
            "--sampler",
            metavar="NAME",
            rich_help_panel=_LOOK,
            help="unipc or euler; rcm or rcm-ode for a student that needs 1 to 4 steps.",
        ),
    ] = None,
    sigma_max: Annotated[
        float | None,
        typer.Option(
            "--sigma-max",
            metavar="S",
            rich_help_panel=_LOOK,
            help="Where such a student starts: more is sharper, less varied. By default 80, or 200 from a picture.",
        ),
    ] = None,
    sigmas: Annotated[
        str | None,
        typer.Option(
            "--sigmas",
            metavar="LIST",
            rich_help_panel=_LOOK,
            help="Times of your own, from at most 1 to 0, such as 0.99,0.93,0.85,0.61,0.",
        ),
    ] = None,
    passes: Annotated[
        str | None,
        typer.Option(
            "--passes",
            metavar="LIST",
            rich_help_panel=_LOOK,
            help="How to be faster, such as sparse_attention:0.15,int8 (docs/passes.md).",
        ),
    ] = None,
    turbo: Annotated[
        str | None,
        typer.Option(
            "--turbo",
            metavar="LEVEL",
            rich_help_panel=_LOOK,
            help="Be faster where it pays here: off, safe (the same clip), max (nearly the same).",
        ),
    ] = None,
    no_audio: Annotated[
        bool,
        typer.Option("--no-audio", metavar="", rich_help_panel=_LOOK, help="Without sound, if the model makes any."),
    ] = False,
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
        list[str] | None,
        typer.Option(
            "--quality",
            metavar="Q|CLASS",
            rich_help_panel=_FILE,
            help="Of the file, 0 to 100: more looks better and takes more room; by default 80. Of the clip: exact, "
            "approximate or distilled, which is how far a faster way may go. May be given for both.",
        ),
    ] = None,
    max_vram: MaxVram = None,
    max_ram: MaxRam = None,
    prefer: PreferWord = None,
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
    """Make a film from words, pictures or footage."""
    make_clips(read_wish(locals()), as_json=as_json, quiet=quiet)


def read_wish(typed: Mapping[str, Any]) -> Wish:
    """What was typed, by the names of `generate`'s options; those that are not there were not given.

    Raises InvalidRequest for words that mean nothing.
    """
    file_quality, quality = _qualities(typed.get("quality") or [])
    limits = read_limits(
        max_vram=typed.get("max_vram"), max_ram=typed.get("max_ram"), quality=quality, prefer=typed.get("prefer")
    )
    fields = {name: typed.get(option) for name, option in _FIELDS.items()}
    return Wish(
        prompt=typed["prompt"],
        size=typed.get("size"),
        num_clips=typed.get("num", 1),
        output=typed.get("output"),
        quality=file_quality,
        sidecar=typed.get("sidecar", False),
        private=typed.get("private", False),
        limits=limits,
        fields={
            **fields,
            "keyframes": read_keyframes(typed.get("keyframe") or []),
            "references": typed.get("reference") or [],
            "loras": read_loras(typed.get("lora") or []),
            "sound": not typed.get("no_audio", False),
        },
    )


# Fields of a Request that are taken as they were typed, and the options that they come from.
_FIELDS = {
    **{
        name: name
        for name in (
            "model", "image", "last", "video", "strength", "mask", "seconds", "fps", "seed", "steps", "guidance",
            "shift", "sampler", "sigma_max", "sigmas", "passes", "turbo",
        )
    },
    "num_frames": "frames",
    "negative_prompt": "negative",
}  # fmt: skip


def _qualities(words: Sequence[str]) -> tuple[int | None, str | None]:
    """That of the file, and that of the clip."""
    of_file: int | None = None
    of_clip: str | None = None
    for word in words:
        if word.lstrip("+-").isdigit():
            of_file = int(word)
            if not 0 <= of_file <= 100:
                raise InvalidRequest(f"--quality: {of_file} is not from 0 to 100", field="quality")
        else:
            of_clip = word
    return of_file, of_clip
