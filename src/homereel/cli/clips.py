"""Carries out what `homereel generate` was asked for: one clip after the other, the model kept warm."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homereel.cli.output import bytes_text, seconds_text, show_json
from homereel.cli.progress import Display, show_progress
from homereel.cli.stop import StopSwitch
from homereel.cli.targets import automatic_names
from homereel.cli.wish import Job, Wish, plan_jobs
from homereel.core.errors import Stopped

if TYPE_CHECKING:
    from homereel.core.plan import Plan
    from homereel.core.result import Result

_STAGES = ("load", "text", "denoise", "decode", "write")


def make_clips(wish: Wish, *, as_json: bool, quiet: bool) -> None:
    """Make every clip of the wish and tell what came of it.

    Each file appears whole, as soon as it is made; an error or a stop leaves those which were made before.
    """
    started = time.perf_counter()
    jobs = plan_jobs(wish)
    with (
        show_progress(silent=as_json or quiet) as display,
        StopSwitch(on_asked=display.stopping) as should_stop,
    ):
        show = _Show(display, as_json=as_json, quiet=quiet)
        made = _make(jobs, wish=wish, started=started, show=show, should_stop=should_stop)
    if as_json:
        show_json(_as_dict(made))


def _make(
    jobs: Sequence[Job], *, wish: Wish, started: float, show: _Show, should_stop: StopSwitch
) -> list[dict[str, Any]]:
    """What `--json` tells of each clip; the frames themselves are not kept."""
    show.display.begin("")
    from homereel.engine.generate import generate  # brings torch: seconds, which the display should cover
    from homereel.engine.session import Session

    made: list[dict[str, Any]] = []
    with Session() as session:
        for index, job in enumerate(jobs, start=1):
            show.display.begin(f"{index}/{len(jobs)}" if len(jobs) > 1 else "")
            try:
                result = generate(
                    job.request,
                    session=session,
                    on_progress=show.display.update,
                    should_stop=should_stop,
                    on_plan=show.notes,
                )
                with should_stop.writing():
                    files = _save(result, job, wish=wish)
                show.silence(result, files.clip)
            except Stopped:
                raise Stopped(_stopped(made)) from None
            now = time.perf_counter()
            made.append(_facts(result, files, seconds=now - started))
            show.clip(result.plan, made[-1])
            started = now
    return made


@dataclass(frozen=True)
class _Files:
    clip: Path
    sidecar: Path | None


def _save(result: Result, job: Job, *, wish: Wish) -> _Files:
    from homereel import media

    target = job.target
    if wish.output is None and Path(target).exists():  # taken while we worked
        target = automatic_names(result.request.prompt, count=1)[0]
    path = result.save(target, quality=wish.quality, private=wish.private)
    if "%" in Path(target).name and path.is_dir():
        path = Path(target)  # frames of a pattern: their folder holds more than them
    record = media.read_record(path) if wish.sidecar else None
    return _Files(path, None if record is None else media.write_sidecar(path, record))


def _facts(result: Result, files: _Files, *, seconds: float) -> dict[str, Any]:
    """One clip for `--json`. `seconds` is all that it took; "other" is what is no stage, as starting."""
    split = {stage: getattr(result.timing, f"{stage}_seconds") for stage in _STAGES}
    split["other"] = max(0.0, seconds - result.timing.total_seconds)
    return {
        "file": str(files.clip),
        "sidecar": None if files.sidecar is None else str(files.sidecar),
        "seed": result.plan.seed,
        "seconds": round(seconds, 3),
        "split": {stage: round(spent, 3) for stage, spent in split.items()},
        "peak_bytes": result.peak_bytes,
        "plan": result.plan.as_dict(),
        "adjustments": list(result.plan.adjustments),
        "warnings": list(result.plan.warnings),
        "frames_sha256": result.frames_sha256,
        "sound_sha256": result.sound_sha256,
    }


class _Show:
    """What a person is told while the clips are made; a program is told at the end."""

    def __init__(self, display: Display, *, as_json: bool, quiet: bool) -> None:
        self.display = display
        self._as_json = as_json
        self._quiet = quiet
        self._told: set[str] = set()

    def notes(self, plan: Plan) -> None:
        """What is about to be made, what was changed, what will not be heeded; once, also for several clips."""
        summary = (
            f"{plan.model} on {plan.device}: {plan.width}x{plan.height}, "
            f"{plan.num_frames} frames ({plan.clip_seconds:.2f} s), {plan.steps} steps"
            + (f", {', '.join(plan.passes)} ({plan.exactness})" if plan.passes else "")
        )
        warnings = [f"warning: {warning}" for warning in plan.warnings]
        for note in (*plan.adjustments, *warnings, *([] if self._quiet else [summary])):
            if not self._as_json and note not in self._told:
                self._told.add(note)
                self.display.tell(note)

    def silence(self, result: Result, clip: Path) -> None:
        """That the sound was left out, if the file's format has none."""
        from homereel.media import carries_sound

        if result.sound is not None and not carries_sound(clip) and not self._as_json:
            self.display.tell(f"warning: {clip.name} is without the sound; only .mp4 carries it")

    def clip(self, plan: Plan, facts: dict[str, Any]) -> None:
        """The line for one finished file."""
        if self._as_json:
            return
        if self._quiet:
            self.display.show(facts["file"])
            return
        self.display.show(
            f"{facts['file']}: {plan.clip_seconds:.2f} s of film in {seconds_text(facts['seconds'])}, "
            f"peak memory {bytes_text(facts['peak_bytes'])}, seed {plan.seed}"
        )


def _stopped(made: Sequence[dict[str, Any]]) -> str:
    if not made:
        return "stopped; no file was written"
    return f"stopped; whole and kept: {', '.join(clip['file'] for clip in made)}"


def _as_dict(made: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All clips stand in "clips"; what stands at the top is of the only one, or of all together."""
    files = {"files": [clip["file"] for clip in made], "clips": list(made)}
    if len(made) == 1:
        return {**made[0], **files}
    seconds = round(sum(clip["seconds"] for clip in made), 3)
    return {"seconds": seconds, "peak_bytes": max(clip["peak_bytes"] for clip in made), **files}
