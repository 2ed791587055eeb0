"""`homereel bench`: how much faster a clip is made here, prompt to file, than by diffusers' own pipeline."""

from __future__ import annotations

from typing import Annotated

import typer

from homereel.cli.bench_table import show_bench
from homereel.cli.options import MAKING, SHOWN, Size
from homereel.cli.output import show_json
from homereel.cli.progress import show_progress, silent_with
from homereel.cli.stop import StopSwitch

_SIDES, _MEASURING = "Who runs against whom", "How it is measured"

EXAMPLES = "Such as:  homereel bench --model pocket --steps 4 --exam 256 -o bench.png"


def bench(
    *,
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", metavar="ID|FOLDER", rich_help_panel=_SIDES, help="The teacher: a text-to-video Wan."
        ),
    ] = "pocket",
    turbo_model: Annotated[
        str | None,
        typer.Option(
            "--turbo-model",
            metavar="ID|FOLDER",
            rich_help_panel=_SIDES,
            help="Its student. By default the one its card names, else the model itself without guidance.",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            metavar="N",
            rich_help_panel=_SIDES,
            help="Of homereel's side. By default the student's own, or 4 where there is none.",
        ),
    ] = None,
    passes: Annotated[
        str | None,
        typer.Option("--passes", metavar="LIST", rich_help_panel=_SIDES, help="Of homereel's side, as for generate."),
    ] = None,
    turbo: Annotated[
        str | None,
        typer.Option(
            "--turbo",
            metavar="LEVEL",
            rich_help_panel=_SIDES,
            help="Of homereel's side: off, safe (without --passes) or max.",
        ),
    ] = None,
    baseline_steps: Annotated[
        int,
        typer.Option("--baseline-steps", metavar="N", rich_help_panel=_SIDES, help="Of diffusers' side."),
    ] = 50,
    baseline_dtype: Annotated[
        str | None,
        typer.Option(
            "--baseline-dtype",
            metavar="TYPE",
            rich_help_panel=_SIDES,
            help="Of diffusers' side: float32, bfloat16 or float16. By default the fastest of this machine.",
        ),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", metavar="TEXT", rich_help_panel=MAKING, help="What to see.")
    ] = None,
    size: Size = None,
    frames: Annotated[
        int | None, typer.Option("--frames", metavar="N", rich_help_panel=MAKING, help="How long, in frames.")
    ] = None,
    runs: Annotated[
        int,
        typer.Option(
            "--runs", min=3, max=1_000, metavar="N", rich_help_panel=_MEASURING, help="Warm clips a side: the median."
        ),
    ] = 3,
    exam: Annotated[
        int,
        typer.Option(
            "--exam",
            min=0,
            max=100_000,
            metavar="N",
            rich_help_panel=_MEASURING,
            help="Examine both sides, too, with so many clips each; 256 or more tell something.",
        ),
    ] = 0,
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FILE.png", rich_help_panel=SHOWN, help="Draw a chart.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", rich_help_panel=SHOWN, help="One JSON object, with every clip.")
    ] = False,
) -> None:
    """Measure a clip, prompt to file: diffusers' own pipeline against homereel, in one run on this machine.

    Both sides have a process of their own, make a first clip (cold) and then warm ones in turn; medians count.

    Tells the seconds of text, transformer, VAE and encoding, peak memory, and on wish the exam's score of both.
    """
    from homereel.cli.bench_chart import check_chart, draw_chart
    from homereel.cli.bench_run import Asked, run_bench

    chart = None if output is None else check_chart(output)
    asked = Asked(
        model=model,
        turbo_model=turbo_model,
        steps=steps,
        passes=passes,
        turbo=turbo,
        baseline_steps=baseline_steps,
        baseline_dtype=baseline_dtype,
        prompt=prompt,
        size=size,
        num_frames=frames,
        runs=runs,
        exam=exam,
    )
    with (
        show_progress(silent=silent_with(as_json=as_json)) as display,
        StopSwitch(on_asked=display.stopping) as should_stop,
    ):
        display.begin("")
        found = run_bench(asked, display=display, should_stop=should_stop).as_dict()
    if chart is not None:
        draw_chart(found, chart)
    if as_json:
        show_json(found)
    else:
        show_bench(found)
        if chart is not None:
            print(f"\n{chart}")
