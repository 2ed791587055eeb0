"""`homereel storyboard`: a file with shots in, one film with cuts out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homereel.cli.options import SHOWN
from homereel.cli.output import show_json
from homereel.cli.step_options import LOOK, Json, Output, Quality, Quiet
from homereel.cli.steps import Making, make_steps, new_file, new_folder
from homereel.cli.targets import slug

if TYPE_CHECKING:
    from homereel.workflows.step import Step

EXAMPLES = """[bold]Examples[/bold]

homereel storyboard film.toml -o film.mp4

homereel storyboard film.yaml --shots shots/      keep the shots there

[bold]film.toml[/bold]

model = "pocket"
seed = 7

\\[\\[shots]]
prompt = "a red ball bounces on a green floor"

\\[\\[shots]]
subject = "a blue box"
action = "slides left"
scene = "on a white floor"

\\[\\[shots]]
prompt = "a blue box slides right on a white floor"
continues = true"""


def storyboard(
    file: Annotated[str, typer.Argument(help="The shots: .toml, .json or .yaml (docs/workflows.md).", metavar="FILE")],
    *,
    shots: Annotated[
        str | None,
        typer.Option("--shots", metavar="FOLDER", rich_help_panel="Where to put it", help="Where the shots are kept."),
    ] = None,
    writer: Annotated[
        str | None,
        typer.Option(
            "--writer",
            metavar="FOLDER",
            rich_help_panel=LOOK,
            help="A language model on this machine that writes the prompts of shots given in parts.",
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", metavar="", rich_help_panel=SHOWN, help="Only show the prompts and the cuts.")
    ] = False,
    output: Output = None,
    quality: Quality = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a film of several shots that share style, references and seeds.

    A shot that `continues` goes on where the one before ended; every other begins with a cut.
    """
    from homereel.workflows import film_cuts, read_storyboard
    from homereel.workflows import storyboard as plan_film
    from homereel.workflows.writer import read_writer

    board = read_storyboard(file)
    steps = plan_film(board, write=None if writer is None else read_writer(writer))
    cuts = film_cuts(steps)
    if plan:
        told = [{"step": step.name, "parent": step.parent, "takes": step.takes, **_request(step)} for step in steps]
        if as_json:
            show_json({"shots": told, "film": [{"step": cut.name, "skip_frames": cut.skip_frames} for cut in cuts]})
        for step in () if as_json else steps:
            print(f"{step.name}{' (goes on)' if step.takes else ''}: {step.request.prompt}")
        return
    name = board.title or Path(file).stem
    film = new_file(output, beside=Path(f"{slug(name)}.mp4"), word="film")
    folder = new_folder(shots, name=f"{slug(name)}-shots")

    def join(places: dict[str, Path]) -> dict[str, list[str]]:
        from homereel.workflows.film import join_clips

        pieces = [(places[cut.name], cut.skip_frames) for cut in cuts]
        return {"files": [str(join_clips(pieces, film, title=board.title, quality=quality))]}

    make_steps(
        steps,
        {step.name: folder / f"{number:02d}-{slug(step.name)}.mp4" for number, step in enumerate(steps, start=1)},
        making=Making(quality=quality, as_json=as_json, quiet=quiet),
        last=join,
    )


def _request(step: Step) -> dict[str, Any]:
    """With step:NAME in the place of a clip that is still to be made."""
    return step.request.model_dump(mode="json", exclude_defaults=True)
