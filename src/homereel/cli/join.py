"""`homereel join`: several clips in, one film with cuts out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from homereel.cli.output import show_json
from homereel.cli.step_options import FILE, Json, Output, Quality
from homereel.cli.steps import new_file

EXAMPLES = """[bold]Examples[/bold]

homereel join first.mp4 second.mp4 third.mp4 -o film.mp4

homereel join shots/*.mp4                         in the order in which they are named"""


def join(
    clips: Annotated[list[str], typer.Argument(help="Clips of one size and pace, in their order.", metavar="CLIP...")],
    *,
    title: Annotated[
        str, typer.Option("--title", metavar="TEXT", rich_help_panel=FILE, help="What the film is called.")
    ] = "",
    output: Output = None,
    quality: Quality = None,
    as_json: Json = False,
) -> None:
    """Join clips to one film with cuts: of one size and pace, with the sound of those that have it.

    A clip without sound is silent in a film that has some. The film tells how each of its clips was made.
    """
    from homereel import media
    from homereel.workflows.film import join_clips

    paths = [Path(clip) for clip in clips]
    target = new_file(output, beside=paths[0], word="film")
    film = join_clips([(path, 0) for path in paths], target, title=title, quality=quality)
    if not as_json:
        print(film)
        return
    found = media.probe(film)
    facts = {"num_frames": found.num_frames, "fps": found.fps, "seconds": found.seconds, "bytes": found.size_bytes}
    show_json({"file": str(film), "files": [str(film)], **facts, "has_sound": found.sound is not None})
