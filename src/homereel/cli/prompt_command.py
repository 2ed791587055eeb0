"""`homereel prompt`: the parts of a shot in, the prompt that a model wants out."""

from __future__ import annotations

from typing import Annotated

import typer

from homereel.cli.output import show_json
from homereel.cli.step_options import Json

_PARTS = "What is seen and heard"
EXAMPLES = """[bold]Examples[/bold]

homereel prompt --subject "a red ball" --action bounces --scene "on a green floor" | homereel generate -

homereel prompt -m wan2.1-t2v-1.3b --subject "an old fisherman" --action "mends a net" --light "low sun from behind" """


def _part(text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(metavar="TEXT", rich_help_panel=_PARTS, help=text)
    return option


def prompt(
    *,
    subject: Annotated[str, _part("Who or what is seen.")],
    action: Annotated[str, _part("What it does.")] = "",
    scene: Annotated[str, _part("Where.")] = "",
    camera: Annotated[str, _part("How the camera moves.")] = "",
    lens: Annotated[str, _part("Through what lens, from how far.")] = "",
    light: Annotated[str, _part("The light, and the time of day.")] = "",
    style: Annotated[str, _part("What it looks like as a whole.")] = "",
    sound: Annotated[str, _part("What is heard, for models that make sound.")] = "",
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="ID|FOLDER", help="The model it is for; as for generate.")
    ] = None,
    writer: Annotated[
        str | None,
        typer.Option(
            "--writer", metavar="FOLDER", help="A language model on this machine that writes it, instead of templates."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the prompt of a shot from its parts, in the words and the order that a model wants."""
    from homereel.models.registry import model_facts
    from homereel.workflows import PromptFields, expand_prompt
    from homereel.workflows.writer import read_writer

    fields = PromptFields(
        subject=subject, action=action, scene=scene, camera=camera, lens=lens, light=light, style=style, sound=sound
    )
    facts = model_facts(model)
    text = expand_prompt(fields, model=facts, write=None if writer is None else read_writer(writer))
    if as_json:
        show_json({"prompt": text, "model": facts.model, "fields": fields.model_dump()})
    else:
        print(text)
