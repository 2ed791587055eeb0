"""The way of one clip: settle the request, encode the text, denoise, decode; frames come with a record.

`generate` keeps the frames in memory, `generate_file` writes them while they are decoded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor

from homereel import media
from homereel.core.events import OnProgress, ShouldStop
from homereel.core.plan import Plan
from homereel.core.request import Request
from homereel.core.result import FiledClip, Result, Writer, sound_sha256
from homereel.engine.clip import Clip
from homereel.engine.ladder import Ladder
from homereel.engine.memory import keep_within, start_peak
from homereel.engine.noted import note_run
from homereel.engine.run import Run
from homereel.engine.session import Session
from homereel.engine.state import DenoiseState

DEFAULT_QUALITY = 80


class ClipOptions(TypedDict, total=False):
    """What `generate` and `generate_file` take alike until there are latents."""

    session: Session | None
    resume: DenoiseState | None
    on_plan: Callable[[Plan], None] | None
    on_state: Callable[[DenoiseState], None] | None


def generate(
    request: Request,
    *,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
    session: Session | None = None,
    resume: DenoiseState | None = None,
    on_plan: Callable[[Plan], None] | None = None,
    on_state: Callable[[DenoiseState], None] | None = None,
    parents: tuple[str, ...] = (),
) -> Result:
    """Make one clip.

    `on_plan` is told the settled plan before anything is loaded; `on_state` gets the state after each step,
    and `resume` goes on from such a state to the same bits (the request must name its seed). `should_stop` is
    asked after every pass through the model, and between pieces of decoded frames. `parents` are fingerprints of
    the clips that this one is made from.

    Raises InvalidRequest, UnsupportedPass, MediaError, WeightsError, GenerationFailed or Stopped; then nothing is
    written.
    """
    run = Run(on_progress=on_progress, should_stop=should_stop)
    with _denoised(request, run=run, session=session, resume=resume, on_plan=on_plan, on_state=on_state) as (
        clip,
        done,
    ):
        sound, decoding = clip.decode_sound(done), clip.decoding(done)
        frames = decoding.whole()
        record = clip.record(frames_sha256=decoding.frames_sha256, sound=sound, parents=parents)
        return Result(
            frames=frames,
            fps=clip.plan.fps,
            request=request,
            plan=clip.plan,
            timing=run.timing(),
            peak_bytes=record["homereel"]["peak_bytes"],
            record=record,
            writer=_writer(run),
            sound=sound,
        )


def generate_file(
    request: Request,
    target: str | Path | Callable[[], str | Path],
    *,
    quality: int | None = None,
    private: bool = False,
    keep_latents: bool = False,
    writing: Callable[[], AbstractContextManager[object]] = nullcontext,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
    parents: tuple[str, ...] = (),
    **options: Unpack[ClipOptions],
) -> FiledClip:
    """Make one clip and write it while it is decoded: an mp4 or PNG frames of any length in the memory of a few.

    `target`, `quality` and `private` are those of `Result.save`; a target that is a function is asked when there is
    something to write. With `keep_latents` the latents lie beside it as FILE.latents.safetensors, so that another clip
    can start from them (where the family can; see `engine.kept`). `writing` is entered while a file is there that would
    be left half-written. The other options
    are those of `generate`, and so is what it raises; further UnwritableTarget. Whatever ends the work, the file is
    there whole or not at all.
    """
    run = Run(on_progress=on_progress, should_stop=should_stop)
    used = DEFAULT_QUALITY if quality is None else quality
    record: dict[str, Any] = {}
    with _denoised(request, run=run, **options) as (clip, latents):
        sound, decoding = clip.decode_sound(latents), clip.decoding(latents)

        def finished() -> dict[str, Any]:
            """Known when all frames are."""
            run.report("write", 0, 1)
            made = clip.record(frames_sha256=decoding.frames_sha256, sound=sound, parents=parents)
            record.update(_with_encoding(made, quality=used))
            return record

        with closing(decoding.frames()) as frames, writing(), run.timed("write"):
            path = media.write_clip(
                media.FrameStream(frames, shape=decoding.shape),
                target() if callable(target) else target,
                fps=clip.plan.fps,
                record=finished,
                quality=used,
                private=private,
                sound=sound,
            )
            if keep_latents:
                clip.keep(latents, path=path, frames_sha256=decoding.frames_sha256)
        run.report("write", 1, 1)
        return FiledClip(
            path=path,
            fps=clip.plan.fps,
            request=request,
            plan=clip.plan,
            timing=run.timing(),
            peak_bytes=record["homereel"]["peak_bytes"],
            record=record,
            frames_sha256=decoding.frames_sha256,
            sound_sha256=None if sound is None else sound_sha256(sound),
        )


def make_plan(request: Request, *, session: Session) -> Plan:
    """What `generate` would do, without doing it."""
    return Clip(request, run=Run(on_progress=None, should_stop=None), session=session).plan


@contextmanager
def _denoised(
    request: Request,
    *,
    run: Run,
    session: Session | None = None,
    resume: DenoiseState | None = None,
    on_plan: Callable[[Plan], None] | None = None,
    on_state: Callable[[DenoiseState], None] | None = None,
) -> Iterator[tuple[Clip, Tensor]]:
    """A clip and its finished latents, while its decoder may be asked for."""
    with nullcontext(session) if session else Session() as warm, _exact_convolutions():
        clip = Clip(request, run=run, session=warm)
        if on_plan is not None:
            on_plan(clip.plan)
        keep_within(warm.machine)
        start_peak(clip.plan.device)
        clip.on_plan, rungs = on_plan, clip.plan.rungs
        yield clip, Ladder(clip, on_plan=on_plan).denoised(resume, on_state=on_state)
        if resume is None and clip.plan.rungs == rungs:  # nothing had to be given up
            note_run(clip.plan, machine=warm.machine, took=run.timing())


def _with_encoding(record: dict[str, Any], *, quality: int) -> dict[str, Any]:
    return {"homereel": {**record["homereel"], "encoding": {"quality": quality}}}


def _writer(run: Run) -> Writer:
    def write(result: Result, target: str | Path, *, quality: int | None, private: bool) -> Path:
        used = DEFAULT_QUALITY if quality is None else quality
        started = time.perf_counter()
        with run.stage("write"):
            path = media.write_clip(
                result.frames,
                target,
                fps=result.fps,
                record=_with_encoding(dict(result.record), quality=used),
                quality=used,
                private=private,
                sound=result.sound,
            )
        result.timing = replace(result.timing, write_seconds=time.perf_counter() - started)
        return path

    return write


@contextmanager
def _exact_convolutions() -> Iterator[None]:
    """On a GPU, the same seed gives the same frames only if convolutions are chosen alike each time."""
    if not torch.cuda.is_available():
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        yield
