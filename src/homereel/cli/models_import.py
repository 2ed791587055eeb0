"""`homereel models import`: a single file, as ComfyUI and others have it, becomes a model that can be run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from homereel.cli.output import bytes_text, show_json, tell
from homereel.cli.stop import StopSwitch

if TYPE_CHECKING:
    from homereel.models.single_file.import_model import Progress


def models_import(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="A .safetensors, .gguf or .pth file, all parts of one, or two experts' files.", metavar="FILE..."
        ),
    ],
    *,
    name: Annotated[
        str | None, typer.Option("--name", metavar="ID", help="What to call the model; default: after the file.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base", metavar="MODEL|DIR", help="Whose text encoder, VAE and so on to use; default: by shape."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="The transformer's config.json, for unusual sizes.")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype", metavar="TYPE", help="bfloat16 or float32; default: bfloat16, but int8 in blocks stays int8."
        ),
    ] = None,
    trust_pickle: Annotated[
        bool,
        typer.Option("--trust-pickle", metavar="", help="Open a .pth also where no process can be locked in to do it."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="One JSON object with what was done.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", metavar="", help="No progress.")] = False,
) -> None:
    """Make a model out of a single file: original, ComfyUI's or diffusers' names; fp8, int8 and GGUF with scales.

    TurboWan's students keep their tuned attention, and their int8. A .pth is opened in a process that reaches nothing.
    """
    from homereel.models.single_file.import_model import import_model

    switch = StopSwitch(on_asked=_tell_stopping)
    with _progress(silent=quiet or as_json) as on_progress, switch:
        made = import_model(
            files,
            name=name,
            base=base,
            config=config,
            dtype=dtype,
            trust_pickle=trust_pickle,
            on_progress=on_progress,
            should_stop=switch,
        )
    if as_json:
        show_json(asdict(made))
        return
    for remark in made.remarks:
        tell(remark)
    print(f"{made.id} is here: {bytes_text(made.num_bytes)} in {made.path}, other parts from {made.base}")
    print(f'homereel generate "..." --model {made.id}')


def _tell_stopping() -> None:
    """Called from a signal handler, so past all buffers."""
    os.write(2, b"homereel: stopping; nothing is kept (Ctrl-C again: at once)\n")


@contextmanager
def _progress(*, silent: bool) -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal, a line a quarter elsewhere."""
    if silent:
        yield lambda _: None
        return
    if not sys.stderr.isatty():
        yield _Quarters().update
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("converting"), BarColumn(bar_width=24), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("", total=None)
        yield lambda progress: bar.update(task, total=progress.total_bytes, completed=progress.done_bytes)


class _Quarters:
    def __init__(self) -> None:
        self._shown = 0

    def update(self, progress: Progress) -> None:
        quarter = 4 * progress.done_bytes // max(1, progress.total_bytes)
        if quarter > self._shown:
            self._shown = quarter
            tell(f"{bytes_text(progress.done_bytes)} of {bytes_text(progress.total_bytes)} converted")
