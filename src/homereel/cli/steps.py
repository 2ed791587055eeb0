"""Carries out the steps of a workflow in process: one clip after the other, the model kept warm, the latents kept
beside each clip so that the next workflow can start from them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homereel.cli.clips import Files, Show, clip_facts
from homereel.cli.output import show_json
from homereel.cli.progress import show_progress
from homereel.cli.stop import StopSwitch
from homereel.core.errors import Stopped, UnwritableTarget

if TYPE_CHECKING:
    from homereel.core.request import Request
    from homereel.core.result import FiledClip
    from homereel.workflows.step import Step


@dataclass(frozen=True)
class Making:
    """How files are written, and what is shown."""

    quality: int | None = None
    as_json: bool = False
    quiet: bool = False


def make_steps(
    steps: Sequence[Step], targets: Mapping[str, Path], *, making: Making, last: Any = None
) -> dict[str, Path]:
    """Make the clip of every step at its target; returns where they lie, by the names of the steps.

    `last` is called with these when all are there, such as to draw a sheet: it returns what `--json` tells beside the
    clips, and lines for people. An error or a stop leaves the clips that were made before.
    """
    made: list[dict[str, Any]] = []
    places: dict[str, Path] = {}
    with (
        show_progress(silent=making.as_json or making.quiet) as display,
        StopSwitch(on_asked=display.stopping) as should_stop,
    ):
        show = Show(display, as_json=making.as_json, quiet=making.quiet)
        display.begin("")
        from homereel.engine.generate import generate_file  # brings torch: seconds, which the display should cover
        from homereel.engine.session import Session
        from homereel.workflows.run import run_steps

        with Session() as session:

            def make(step: Step, request: Request) -> FiledClip:
                number = len(made) + 1
                display.begin(f"{number}/{len(steps)}" if len(steps) > 1 else "")
                for note in step.notes if not making.as_json else ():
                    display.tell(note)
                return generate_file(
                    request,
                    targets[step.name],
                    quality=making.quality,
                    keep_latents=True,
                    writing=should_stop.writing,
                    session=session,
                    on_progress=display.update,
                    should_stop=should_stop,
                    on_plan=show.notes,
                )

            started = time.perf_counter()
            try:
                for step, clip in run_steps(steps, make=make):
                    now = time.perf_counter()
                    places[step.name] = clip.path
                    facts = clip_facts(clip, Files(clip.path, None), seconds=now - started)
                    made.append({"step": step.name, "parent": step.parent, "relation": step.relation, **facts})
                    show.clip(clip.plan, made[-1])
                    started = now
            except Stopped:
                kept = ", ".join(clip["file"] for clip in made)
                raise Stopped(f"stopped; whole and kept: {kept}" if kept else "stopped; no file was written") from None
        told: dict[str, Any] = {} if last is None else last(places)
        for line in told.get("files", []) if not making.as_json else []:
            display.show(line)
    if making.as_json:
        show_json({**told, "files": [*told.get("files", []), *(clip["file"] for clip in made)], "clips": made})
    return places


def new_folder(wanted: str | None, *, name: str) -> Path:
    """The folder for several clips: as given (made if need be), or a new one of this name. Raises UnwritableTarget."""
    folder = Path(wanted) if wanted is not None else _free(Path(name))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableTarget(f"{folder} cannot be made: {error.strerror or error}") from None
    return folder


def new_file(wanted: str | None, *, beside: Path, word: str) -> Path:
    """The file as given, or NAME-WORD.mp4 in the present folder, numbered if that is taken."""
    from homereel.media import check_target

    target = Path(wanted) if wanted is not None else _free(Path(f"{beside.stem}-{word}.mp4"))
    check_target(target)
    return target


def draw_sheet(places: Mapping[str, Path], captions: Mapping[str, str], target: Path) -> Path:
    """One picture of all clips: five frames of each, side by side as many as look well."""
    from homereel import media
    from homereel.media.encode_png import write_png

    clips = [media.read_clip(path, limits=media.Limits(max_decoded_bytes=2**30)).frames for path in places.values()]
    columns = 1 if len(clips) < 4 else 2 if len(clips) < 16 else 3
    sheet = media.contact_sheet(clips, captions=[captions[name] for name in places], columns=columns, frames_per_clip=5)
    write_png(sheet, path=target)
    return target


def _free(path: Path) -> Path:
    number, free = 2, path
    while free.exists():
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return free
