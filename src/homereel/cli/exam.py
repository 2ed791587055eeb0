"""`homereel exam`: how often a model shows what was asked for, judged from the pixels alone."""

from __future__ import annotations

from typing import Annotated

import typer

from homereel.cli.exam_run import Examination, examine, examine_autoencoder
from homereel.cli.exam_table import show_result
from homereel.cli.options import SHOWN, Guidance, Size, Steps
from homereel.cli.output import show_json
from homereel.cli.progress import show_progress, silent_with
from homereel.cli.stop import StopSwitch

_EXAM = "The exam"


def exam(
    *,
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="ID|FOLDER", rich_help_panel=_EXAM, help="Whom to examine.")
    ] = "pocket",
    clips: Annotated[
        int,
        typer.Option("--clips", min=1, max=100_000, metavar="N", rich_help_panel=_EXAM, help="How many questions."),
    ] = 256,
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            min=0,
            max=2**31,
            metavar="N",
            rich_help_panel=_EXAM,
            help="Which questions: scores of one seed compare.",
        ),
    ] = 0,
    through_vae: Annotated[
        bool,
        typer.Option(
            "--through-vae",
            metavar="",
            rich_help_panel=_EXAM,
            help="Make no clips: grade drawn ones after the model's autoencoder.",
        ),
    ] = False,
    workers: Annotated[
        int,
        typer.Option(
            "--workers", min=1, max=256, metavar="N", rich_help_panel=_EXAM, help="Processes that read clips."
        ),
    ] = 1,
    steps: Steps = None,
    guidance: Guidance = None,
    size: Size = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", metavar="", rich_help_panel=SHOWN, help="One JSON object: score, traits, ceiling."),
    ] = False,
) -> None:
    """Measure a model: unseen prompts, and clips that are judged from their pixels alone.

    The score is the share of clips in which everything asked for is right.

    The ceiling is what the same reader says of clips that were drawn, not generated.
    """
    wanted = Examination(
        model=model, num_clips=clips, seed=seed, workers=workers, steps=steps, guidance=guidance, size=size
    )
    with (
        show_progress(silent=silent_with(as_json=as_json)) as display,
        StopSwitch(on_asked=display.stopping) as should_stop,
    ):
        display.begin("")
        work = examine_autoencoder if through_vae else examine
        result = work(wanted, display=display, should_stop=should_stop)
    if as_json:
        show_json(result)
    else:
        show_result(result)
