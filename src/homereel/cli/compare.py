"""`homereel compare`: how far apart two clips are, frame by frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from homereel.cli.output import one_line, show_json, show_rows
from homereel.cli.progress import show_progress

if TYPE_CHECKING:
    from homereel.media.compare_files import Comparison
    from homereel.media.likeness import Likeness


def compare(
    first: Annotated[str, typer.Argument(help="A clip, or a folder of frames.", metavar="A")],
    second: Annotated[str, typer.Argument(help="What to compare it with.", metavar="B")],
    *,
    frames: Annotated[bool, typer.Option("--frames", metavar="", help="Show the figures of every frame, too.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="One JSON object, with the figures of every frame.")
    ] = False,
) -> None:
    """Tell how far apart two clips are: PSNR and SSIM of their frames, size, length, pace and sound.

    Exit code 1 if they differ in size, so that frames cannot be compared, else 0.
    """
    with show_progress(silent=as_json) as display:
        display.begin("")
        from homereel.media.compare_files import compare_files

        found = compare_files(
            first, second, on_frame=lambda done, total: display.count("comparing", done, total, left_seconds=None)
        )
    if as_json:
        show_json({"files": [first, second], **found.as_dict()})
    else:
        _show(found, first=first, second=second, frames=frames)
    if found.likeness is None:
        raise typer.Exit(1)


def _show(found: Comparison, *, first: str, second: str, frames: bool) -> None:
    for name, file, clip in (("A", first, found.first), ("B", second, found.second)):
        print(f"{name}  {one_line(file)}: {clip.width}x{clip.height}, {clip.num_frames} frames at {clip.fps:g} fps")
    print()
    show_rows([("sound", found.sound), ("verdict", _verdict(found))])
    for difference in found.differences:
        print(f"different {difference}")
    if found.likeness is not None:
        print()
        _show_figures(found.likeness, frames=frames)


def _verdict(found: Comparison) -> str:
    if found.is_identical:
        return "identical: the same frames, pace and sound"
    if found.likeness is None:
        return "different, and of different size: frames cannot be compared"
    if found.likeness.is_exact:
        return "the frames that both have are the same"
    num_equal = sum(value == math.inf for value in found.likeness.psnr)
    return f"different: {num_equal} of {len(found.likeness.psnr)} frames are the same"


def _show_figures(likeness: Likeness, *, frames: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from homereel.media.likeness import spread

    table = Table(box=None, pad_edge=False)
    table.add_column("frames")
    for name in ("median", "5th percentile", f"worst ({likeness.worst_frame})", "whole clip"):
        table.add_column(name, justify="right")
    ratio = spread(likeness.psnr)
    table.add_row("PSNR dB", *map(psnr_text, (ratio.median, ratio.low, ratio.worst, likeness.whole_psnr)))
    if likeness.ssim is not None:
        similar = spread(likeness.ssim)
        table.add_row("SSIM", *(f"{value:.4f}" for value in (similar.median, similar.low, similar.worst)), "")
    console = Console(markup=False, highlight=False)
    console.print(table)
    if frames:
        print()
        console.print(_frame_table(likeness.psnr, likeness.ssim))


def _frame_table(ratios: Sequence[float], similarities: Sequence[float] | None) -> object:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("frame", "PSNR dB", "SSIM"):
        table.add_column(name, justify="right")
    for index, ratio in enumerate(ratios):
        table.add_row(str(index), psnr_text(ratio), "" if similarities is None else f"{similarities[index]:.4f}")
    return table


def psnr_text(value: float) -> str:
    """Such as "31.42"; "equal" where there is no difference."""
    return "equal" if value == math.inf else f"{value:.2f}"
