"""`homereel refine`, `extend` and `vary`: what follows from a clip that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from homereel.cli.step_options import (
    LOOK,
    Clip,
    Folder,
    Json,
    Model,
    Output,
    Prompt,
    Quality,
    Quiet,
    Seed,
    Size,
    Steps,
    Strength,
)
from homereel.cli.steps import Making, draw_sheet, make_steps, new_file, new_folder

EXAMPLES = """[bold]Examples[/bold]

homereel refine tries/draft-3.mp4 -o ball.mp4

homereel extend ball.mp4 --seconds 2 --prompt "the red ball rolls left"

homereel vary ball.mp4 --num 4 --strength 0.6"""


def refine(
    clip: Clip,
    *,
    prompt: Prompt = None,
    model: Model = None,
    size: Size = None,
    steps: Steps = None,
    strength: Strength = None,
    seed: Seed = None,
    output: Output = None,
    quality: Quality = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Finish a draft: the same picture and motion at full size and steps.

    It starts from the latents that `homereel drafts` keeps beside each clip; without them the clip is encoded.
    """
    from homereel.models.registry import model_facts
    from homereel.workflows import refine as plan_refine
    from homereel.workflows.run import read_made

    made = read_made(clip, prompt=prompt, model=model)
    width = height = None
    if size is not None:
        from homereel.cli.size import read_size

        facts = model_facts(model or made.request.model)
        width, height = read_size(size, grid=facts.grid, defaults=facts.defaults)
    step = plan_refine(
        made, width=width, height=height, steps=steps, strength=strength, prompt=prompt, seed=seed, model=model
    )
    target = new_file(output, beside=Path(clip), word="refined")
    make_steps([step], {step.name: target}, making=Making(quality=quality, as_json=as_json, quiet=quiet))


def extend(
    clip: Clip,
    *,
    seconds: Annotated[
        float | None, typer.Option("--seconds", metavar="S", rich_help_panel=LOOK, help="How much longer.")
    ] = None,
    frames: Annotated[
        int | None, typer.Option("--frames", metavar="N", rich_help_panel=LOOK, help="The same, in frames.")
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(
            "--keep", metavar="N", rich_help_panel=LOOK, help="Go on behind this many of its frames, not all."
        ),
    ] = None,
    prompt: Prompt = None,
    model: Model = None,
    steps: Steps = None,
    seed: Seed = None,
    output: Output = None,
    quality: Quality = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Let a clip go on: the new file holds it, and what happens next.

    Where the model can, its last latents are carried over as they are, so that motion goes on and nothing drifts.
    """
    from homereel.workflows import extend as plan_extend
    from homereel.workflows.run import read_made

    made = read_made(clip, prompt=prompt, model=model)
    step = plan_extend(
        made,
        seconds=seconds,
        num_frames=frames,
        keep_frames=keep,
        prompt=prompt,
        seed=seed,
        steps=steps,
        model=model,
    )
    target = new_file(output, beside=Path(clip), word="longer")
    made_at = target if step.holds_parent else target.with_name(f"{target.stem}-next{target.suffix}")
    make_steps(
        [step],
        {step.name: made_at},
        making=Making(quality=quality, as_json=as_json, quiet=quiet),
        last=None if step.holds_parent else lambda _: _joined(Path(clip), made_at, target, quality=quality),
    )


def vary(
    clip: Clip,
    *,
    num: Annotated[
        int, typer.Option("--num", "-n", min=1, max=1000, metavar="N", rich_help_panel=LOOK, help="How many.")
    ] = 4,
    strength: Annotated[
        float | None,
        typer.Option(
            "--strength",
            metavar="S",
            rich_help_panel=LOOK,
            help="0 to 1: how far they may leave the clip; 1 is another seed and nothing else. By default 0.8.",
        ),
    ] = None,
    prompt: Prompt = None,
    output: Folder = None,
    quality: Quality = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make more like this clip: other seeds, or the clip itself made anew in part."""
    from homereel.workflows import vary as plan_vary
    from homereel.workflows.run import read_made

    made = read_made(clip, prompt=prompt)
    steps = plan_vary(made, num=num, strength=strength, prompt=prompt)
    folder = new_folder(output, name=f"{Path(clip).stem}-variations")
    captions = {step.name: f"{number}: seed {step.request.seed}" for number, step in enumerate(steps, start=1)}
    make_steps(
        steps,
        {step.name: folder / f"variation-{number}.mp4" for number, step in enumerate(steps, start=1)},
        making=Making(quality=quality, as_json=as_json, quiet=quiet),
        last=lambda places: {"files": [str(draw_sheet(places, captions, folder / "sheet.png"))]},
    )


def _joined(clip: Path, following: Path, target: Path, *, quality: int | None) -> dict[str, Any]:
    """The clip and what follows as one file; the picture that the second starts from is the first one's last."""
    from homereel.workflows.film import join_clips

    return {"files": [str(join_clips([(clip, 0), (following, 1)], target, quality=quality))]}
