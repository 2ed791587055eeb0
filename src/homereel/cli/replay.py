"""`homereel replay`: make a file again from the recipe that it carries, and say if it is the same."""

from __future__ import annotations

from typing import Annotated

import typer

from homereel.cli.output import show_json
from homereel.cli.progress import show_progress
from homereel.cli.stop import StopSwitch

_MEANING = {
    "exact": "every frame came out the same",
    "close": "it looks the same, but is not the same to the bit",
    "changed": "it came out different",
}


def replay(
    file: Annotated[str, typer.Argument(help="A file that homereel made.", metavar="FILE")],
    *,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="PATH", help="Keep the clip that is made again.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="One JSON object: verdict, psnr, reasons.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", metavar="", help="Only the verdict.")] = False,
) -> None:
    """Make a file again from its own recipe, and say exact, close or changed, and why.

    Exit code 0 for exact and close, 1 for changed.
    """
    with (
        show_progress(silent=as_json or quiet) as display,
        StopSwitch(on_asked=display.stopping) as should_stop,
    ):
        from homereel.engine.replay import replay as make_again

        verdict = make_again(file, on_progress=display.update, should_stop=should_stop, save_to=output)
    if as_json:
        show_json(verdict.as_dict())
    elif quiet:
        print(verdict.verdict)
    else:
        figure = "" if verdict.psnr is None else f" (PSNR {verdict.psnr:.1f} dB)"
        print(f"{verdict.verdict}: {_MEANING[verdict.verdict]}{figure}")
        for reason in verdict.reasons:
            print(f"  {reason}")
    if verdict.verdict == "changed":
        raise typer.Exit(1)
