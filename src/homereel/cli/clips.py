"""Carries out what `homereel generate` was asked for: one clip after the other, the model kept warm."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homereel.cli.output import bytes_text, seconds_text, show_json
from homereel.cli.progress import Display, show_progress
from homereel.cli.stop import StopSwitch
from homereel.cli.targets import automatic_names
from homereel.cli.wish import Job, Wish, plan_jobs
from homereel.core.errors import InvalidRequest, Stopped
from homereel.core.gpu import has_cuda_gpu

if TYPE_CHECKING:
    from homereel.core.machine import Machine
    from homereel.core.plan import Plan
    from homereel.core.result import FiledClip

_STAGES = ("load", "text", "denoise", "decode", "write")


def make_clips(wish: Wish, *, as_json: bool, quiet: bool) -> None:
    """Make every clip of the wish and tell what came of it.

    Each file appears whole, as soon as it is made; an error or a stop leaves those which were made before.
    """
    started = time.perf_counter()
    jobs = _with_search(plan_jobs(wish), wish=wish)
    with (
        show_progress(silent=as_json or quiet) as display,
        StopSwitch(on_asked=display.stopping) as should_stop,
    ):
        show = Show(display, as_json=as_json, quiet=quiet)
        made = _make(jobs, wish=wish, started=started, show=show, should_stop=should_stop)
    if as_json:
        show_json(_as_dict(made))


def _make(
    jobs: Sequence[Job], *, wish: Wish, started: float, show: Show, should_stop: StopSwitch
) -> list[dict[str, Any]]:
    """What `--json` tells of each clip; the frames themselves are not kept."""
    show.display.begin("")
    from homereel.engine.generate import generate_file  # brings torch: seconds, which the display should cover
    from homereel.engine.session import Session

    made: list[dict[str, Any]] = []
    with Session(machine=_machine(wish)) as session:
        for index, job in enumerate(jobs, start=1):
            show.display.begin(f"{index}/{len(jobs)}" if len(jobs) > 1 else "")
            try:
                clip = generate_file(
                    job.request,
                    partial(_target, job, wish=wish),
                    quality=wish.quality,
                    private=wish.private,
                    writing=should_stop.writing,
                    session=session,
                    on_progress=show.display.update,
                    should_stop=should_stop,
                    on_plan=show.notes,
                )
                with should_stop.writing():
                    files = _files(clip, job, wish=wish)
                show.silence(clip, files.clip)
            except Stopped:
                raise Stopped(_stopped(made)) from None
            now = time.perf_counter()
            made.append(clip_facts(clip, files, seconds=now - started))
            show.clip(clip.plan, made[-1])
            started = now
    return made


def _machine(wish: Wish) -> Machine | None:
    """Within the limits that were typed; None is this machine as it is."""
    limits = wish.limits
    if limits.vram_bytes is None and limits.ram_bytes is None:
        return None
    machine = limits.machine()
    if machine.device == "cuda" and not has_cuda_gpu():
        raise InvalidRequest(
            "--max-vram: there is no GPU here that could be limited; `homereel plan` tells what one would take",
            field="max_vram",
        )
    return machine


def _with_search(jobs: list[Job], *, wish: Wish) -> list[Job]:
    """With the passes that the plan chooses, where it was asked to."""
    if not wish.limits.searches or wish.fields.get("passes") or wish.fields.get("turbo"):
        return jobs
    from homereel.cli.planned import plan_wish

    passes = plan_wish(wish, alternatives=False).plan.passes
    chosen: dict[str, Any] = {"passes": passes} if passes else {"turbo": "off"}
    return [replace(job, request=job.request.replace(**chosen)) for job in jobs]


@dataclass(frozen=True)
class Files:
    """What one clip came to lie in."""

    clip: Path
    sidecar: Path | None


def _target(job: Job, *, wish: Wish) -> str:
    """Where the clip goes, asked when there is something to write."""
    if wish.output is None and Path(job.target).exists():  # taken while we worked
        return automatic_names(job.request.prompt, count=1)[0]
    return job.target


def _files(clip: FiledClip, job: Job, *, wish: Wish) -> Files:
    from homereel import media

    path = clip.path
    if "%" in Path(job.target).name and path.is_dir():
        path = Path(job.target)  # frames of a pattern: their folder holds more than them
    record = media.read_record(path) if wish.sidecar else None
    return Files(path, None if record is None else media.write_sidecar(path, record))


def clip_facts(clip: FiledClip, files: Files, *, seconds: float) -> dict[str, Any]:
    """One clip for `--json`. `seconds` is all that it took; "other" is what is no stage, as starting."""
    split = {stage: getattr(clip.timing, f"{stage}_seconds") for stage in _STAGES}
    split["other"] = max(0.0, seconds - clip.timing.total_seconds)
    return {
        "file": str(files.clip),
        "sidecar": None if files.sidecar is None else str(files.sidecar),
        "seed": clip.plan.seed,
        "seconds": round(seconds, 3),
        "split": {stage: round(spent, 3) for stage, spent in split.items()},
        "peak_bytes": clip.peak_bytes,
        "plan": clip.plan.as_dict(),
        "adjustments": list(clip.plan.adjustments),
        "warnings": list(clip.plan.warnings),
        "frames_sha256": clip.frames_sha256,
        "sound_sha256": clip.sound_sha256,
    }


class Show:
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

    def silence(self, clip: FiledClip, path: Path) -> None:
        """That the sound was left out, if the file's format has none."""
        from homereel.media import carries_sound

        if clip.sound_sha256 is not None and not carries_sound(path) and not self._as_json:
            self.display.tell(f"warning: {path.name} is without the sound; only .mp4 carries it")

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
