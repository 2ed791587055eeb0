"""`homereel fidelity`: what a faster way of computing does to the picture, measured seed by seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from homereel.cli.fidelity_prompts import choose_subjects
from homereel.cli.options import MAKING, SHOWN, Guidance, Size, Steps
from homereel.cli.output import seconds_text, show_json
from homereel.cli.progress import Display, show_progress, silent_with
from homereel.cli.stop import StopSwitch
from homereel.core.errors import InvalidRequest, Stopped

if TYPE_CHECKING:
    from collections.abc import Callable

    from homereel.core.request import Request
    from homereel.engine.fidelity import Fidelity, Subject

_CLIPS = "Which clips"


def fidelity(
    *,
    passes: Annotated[
        str | None,
        typer.Option(
            "--passes", metavar="LIST", help="What to measure, as for generate, such as sparse_attention:0.15,int8."
        ),
    ] = None,
    turbo: Annotated[
        str | None,
        typer.Option("--turbo", metavar="LEVEL", help="Or the passes that this level chooses here: safe or max."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="ID|FOLDER", help="Whose clips. By default the best one installed."),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", metavar="TEXT", rich_help_panel=_CLIPS, help="What to see. May be given often."),
    ] = None,
    prompts: Annotated[
        int | None,
        typer.Option(
            "--prompts",
            min=1,
            max=10_000,
            metavar="N",
            rich_help_panel=_CLIPS,
            help="How many clips. By default one a prompt, or eight of our own prompts.",
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option("--seed", min=0, metavar="N", rich_help_panel=_CLIPS, help="Seed of the first, then one more."),
    ] = 0,
    floor: Annotated[
        int | None,
        typer.Option(
            "--floor",
            min=0,
            metavar="N",
            rich_help_panel=_CLIPS,
            help="How many clips are made twice without the passes, to know the noise. By default all.",
        ),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option("--image", metavar="FILE", rich_help_panel=_CLIPS, help="A picture to begin with."),
    ] = None,
    size: Size = None,
    frames: Annotated[
        int | None, typer.Option("--frames", metavar="N", rich_help_panel=MAKING, help="How long, in frames.")
    ] = None,
    steps: Steps = None,
    guidance: Guidance = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", metavar="", rich_help_panel=SHOWN, help="One JSON object, with every clip."),
    ] = False,
) -> None:
    """Measure what passes change: every clip is made from the same seed with them and without.

    Tells PSNR and SSIM of the frames and the cosine of the latents, as median and 5th percentile over clips.

    Beside them stands what two plain runs differ by: below that, no difference means anything.
    """
    if bool(passes) == bool(turbo):
        raise InvalidRequest(
            "give --passes, such as int8, or --turbo: one of them says what to measure", field="passes"
        )
    given = {"image": image, "num_frames": frames, "steps": steps, "guidance": guidance}
    base, vocabulary = _base_request(model, size=size, given=given)
    subjects = choose_subjects(prompts=prompt or [], num=prompts, seed=seed, vocabulary=vocabulary)
    changed = base.replace(passes=passes) if passes else base.replace(turbo=turbo)
    with (
        show_progress(silent=silent_with(as_json=as_json)) as display,
        StopSwitch(on_asked=display.stopping) as should_stop,
    ):
        display.begin("")
        found = _measure(base, changed, subjects=subjects, num_again=floor, display=display, should_stop=should_stop)
        for warning in () if as_json else found.other.warnings:
            display.tell(f"warning: {warning}")
    if as_json:
        show_json(found.as_dict())
    else:
        show_fidelity(found)


def _base_request(model: str | None, *, size: str | None, given: dict[str, Any]) -> tuple[Request, tuple[str, ...]]:
    """The request without passes, and the model's words if they are few."""
    from homereel.cli.size import read_size
    from homereel.core.request import Request
    from homereel.models.registry import model_facts

    facts = model_facts(model)
    if size is not None:
        width, height = read_size(size, grid=facts.grid, defaults=facts.defaults)
        given |= {"width": width, "height": height}
    fields = {name: value for name, value in given.items() if value is not None}
    return Request.parse({"prompt": "a clip", "model": facts.model, **fields}), facts.vocabulary()


def _measure(
    base: Request,
    changed: Request,
    *,
    subjects: tuple[Subject, ...],
    num_again: int | None,
    display: Display,
    should_stop: Callable[[], bool],
) -> Fidelity:
    from homereel.engine.fidelity import measure_fidelity
    from homereel.engine.session import Session

    with Session() as session:
        try:
            return measure_fidelity(
                base,
                changed,
                subjects=subjects,
                session=session,
                num_again=num_again,
                on_clip=lambda number, total: display.begin(f"{number}/{total}"),
                on_progress=display.update,
                should_stop=should_stop,
            )
        except Stopped:
            raise Stopped("stopped; nothing was measured") from None


_FIGURES = (
    ("psnr", "frames PSNR dB", ".2f"),
    ("ssim", "frames SSIM", ".4f"),
    ("latent_cosine", "latents cosine", ".5f"),
    ("latent_snr", "latents SNR dB", ".2f"),
)


def show_fidelity(found: Fidelity) -> None:
    """Print what `homereel fidelity --json` would tell, for a person."""
    from rich.console import Console
    from rich.table import Table

    told = found.as_dict()
    table = Table(box=None, pad_edge=False)
    table.add_column(f"{len(found.clips)} clips")
    for name in ("median", "5th percentile", "two plain runs: median", "5th percentile"):
        table.add_column(name, justify="right")
    for name, title, form in _FIGURES:
        cells = [_cell(part, name, key, form) for part in (told, told["floor"]) for key in ("median", "p5")]
        table.add_row(title, *cells)
    plan, seconds = found.other, told["denoise_seconds"]
    print(f"{plan.model}: {plan.width}x{plan.height}, {plan.num_frames} frames, {plan.steps} steps on {plan.device}")
    print(
        f"{', '.join(plan.passes) or 'no passes'} ({plan.exactness}) against {', '.join(found.base.passes) or 'none'}\n"
    )
    Console(markup=False, highlight=False).print(table)
    print(
        f"\ndenoising {seconds_text(seconds['base'])} without, {seconds_text(seconds['changed'])} with: "
        f"{seconds['speedup']:.2f} times as fast"
    )
    if plan.exactness == "distilled":
        print("A distilled model makes other clips from the same seed: these figures say nothing of their quality.")


def _cell(part: dict[str, Any] | None, name: str, key: str, form: str) -> str:
    """One figure; "equal" where no difference was found, empty where nothing was measured."""
    if part is None or part[name] is None:
        return ""
    value = part[name][key]
    return "equal" if value is None else format(value, form)
