"""The way of one clip: settle the request, encode the text, denoise, decode; frames come with a record."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from homereel import media
from homereel.core.errors import GenerationFailed
from homereel.core.events import OnProgress, Preview, ShouldStop, Stage
from homereel.core.plan import Plan
from homereel.core.protocols import Component, Conditions, Family, Use
from homereel.core.request import MAX_SEED, Request
from homereel.core.result import Result, Writer, frames_sha256, sound_sha256
from homereel.core.sound import Sound
from homereel.engine.denoise import Loop, StepDone
from homereel.engine.loras import check_loras
from homereel.engine.memory import peak_bytes, start_peak
from homereel.engine.passes import check_resumable_with, choose_passes, pass_files
from homereel.engine.record import build_record
from homereel.engine.run import Run
from homereel.engine.session import Session
from homereel.engine.sources import Sources, input_hashes
from homereel.engine.state import DenoiseState, check_resumable, clip_fingerprint
from homereel.models.registry import model_licence, models_for_input
from homereel.planning.memory import keeps_all
from homereel.planning.plan import plan_clip

DEFAULT_QUALITY = 80
# A clip whose brightest and darkest values are closer than this shows nothing.
FLAT_LEVELS = 8


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
    asked after every pass through the model. `parents` are fingerprints of the clips that this one is made
    from.

    Raises InvalidRequest, UnsupportedPass, MediaError, WeightsError, GenerationFailed or Stopped; then nothing is
    written.
    """
    run = Run(on_progress=on_progress, should_stop=should_stop)
    with nullcontext(session) if session else Session() as warm, _exact_convolutions():
        clip = _Clip(request, run=run, session=warm)
        if on_plan is not None:
            on_plan(clip.plan)
        start_peak(clip.plan.device)
        latents = clip.denoise(resume, conditions=clip.encode(), on_state=on_state)
        frames, sound = clip.decode(latents)
        return clip.result(frames, sound=sound, parents=parents)


def make_plan(request: Request, *, session: Session) -> Plan:
    """What `generate` would do, without doing it."""
    return _Clip(request, run=Run(on_progress=None, should_stop=None), session=session).plan


class _Clip:
    """The stages of one clip; each loads what it needs and frees it if the machine is small."""

    def __init__(self, request: Request, *, run: Run, session: Session) -> None:
        self.request, self.run, self.session = request, run, session
        self.family: Family = session.family(request.model)
        self.sources = Sources(request, takes=self.family.inputs)
        self.loras = check_loras(request, family=self.family)
        self.plan = plan_clip(
            request,
            model=self.family,
            machine=session.machine,
            fresh_seed=secrets.randbelow(MAX_SEED + 1),
            picture_size=self.sources.picture_size,
            footage=self.sources.footage,
            models_for=models_for_input,
            lora_settings=self.loras.settings,
        )
        self.plan = replace(self.plan, warnings=(*self.plan.warnings, *self.loras.warnings))
        self.passes, self.plan = choose_passes(request, self.plan, family=self.family, machine=session.machine)
        self.input_hashes: dict[str, str] = {}
        self.keep_all = keeps_all(self.family, machine=session.machine)

    def encode(self) -> Conditions:
        """All that steers the clip: words, pictures, footage."""
        inputs = self.sources.read(self.plan)
        self.input_hashes = input_hashes(inputs, self.sources)
        self.input_hashes |= {f"loras.{index}": digest for index, digest in enumerate(self.loras.hashes)}
        self.input_hashes |= pass_files(self.passes)
        self.session.use_loras(self.request.loras, hashes=self.loras.hashes)
        self.session.use_passes(self.passes)
        return self.family.encode(inputs, plan=self.plan, use=self._timed_use("text"))

    def denoise(
        self, resume: DenoiseState | None, *, conditions: Conditions, on_state: Callable[[DenoiseState], None] | None
    ) -> Tensor:
        """Noise (or a saved state) to latents."""
        plan, family = self.plan, self.family
        fingerprint = clip_fingerprint(self.request, plan, inputs=self.input_hashes)
        stages = family.stages(plan)
        if resume is not None:
            check_resumable_with(self.passes)
            check_resumable(resume, stages=stages, fingerprint=fingerprint)
        with self.run.stage("load"):
            self._denoiser(family.denoiser(1000.0))
        started, first_step = time.perf_counter(), 0

        def on_step(done: StepDone) -> None:
            nonlocal first_step
            first_step = first_step or done.steps_done
            if on_state is not None:
                on_state(done.state)
            a_step = (time.perf_counter() - started) / (done.steps_done - first_step + 1)
            self.run.report(
                "denoise",
                done.steps_done,
                done.num_steps,
                remaining_seconds=a_step * (done.num_steps - done.steps_done),
                preview=self._preview(done),
            )

        loop = Loop(
            plan=plan,
            family=family,
            conditions=conditions,
            fingerprint=fingerprint,
            component=self._denoiser,
            use=self._use,
            stop_point=self.run.stop_point,
            on_step=on_step,
        )
        with self.run.stage("denoise", num_steps=sum(stage.steps_to_do for stage in stages)):
            latents = loop.run(resume)
        self._free(*(part for part in family.components if part not in family.decoders))
        return latents

    def decode(self, latents: Tensor) -> tuple[NDArray[np.uint8], Sound | None]:
        """Latents to frames and sound. Raises GenerationFailed if the frames show nothing."""
        frames, sound = self.family.decode(latents, plan=self.plan, use=self._timed_use("decode"))
        self.run.stop_point()
        if int(frames.max()) - int(frames.min()) < FLAT_LEVELS:
            level = "black" if frames.max() < FLAT_LEVELS else "one flat colour"
            raise GenerationFailed(f"the whole clip came out {level}; try another seed, or more steps")
        return frames, sound

    def result(self, frames: NDArray[np.uint8], *, sound: Sound | None, parents: tuple[str, ...]) -> Result:
        """The frames with what they took and how they can be made again."""
        peak, timing = peak_bytes(self.plan.device), self.run.timing()
        licence = model_licence(self.plan.model)
        record = build_record(
            request=self.request,
            plan=self.plan,
            machine=self.session.machine,
            file_hashes=self.session.file_hashes(),
            inputs=self.input_hashes,
            loras=self.loras.records,
            frames_sha256=frames_sha256(frames),
            sound_sha256=None if sound is None else sound_sha256(sound),
            timing=timing,
            peak_bytes=peak,
            parents=parents,
            licence=None if licence is None else licence.model_dump(include={"name", "kind", "url"}),
        )
        return Result(
            frames=frames,
            fps=self.plan.fps,
            request=self.request,
            plan=self.plan,
            timing=timing,
            peak_bytes=peak,
            record=record,
            writer=_writer(self.run),
            sound=sound,
        )

    def _preview(self, done: StepDone) -> Preview | None:
        """None where the decoder cannot lie beside the denoiser."""
        if not self.keep_all:
            return None
        return lambda: self.family.preview(done.state.stage, done.picture(), plan=self.plan, use=self._use)

    def _load(self, name: str) -> Component:
        with self.run.stage("load"):
            return self.session.component(name, dtype=self.plan.dtype)

    def _denoiser(self, name: str) -> Component:
        """A loaded denoiser; on a small machine it takes the place of the other one."""
        if not self.session.is_loaded(name, dtype=self.plan.dtype):
            self._free(*self.family.components)
        return self.session.component(name, dtype=self.plan.dtype)

    @contextmanager
    def _use(self, name: str) -> Iterator[Component]:
        part = self._load(name)
        try:
            yield part
        finally:
            del part
            self._free(name)

    def _timed_use(self, stage: Stage) -> Use:
        """The same, where the time that a part is lent for counts as this stage's."""

        @contextmanager
        def use(name: str) -> Iterator[Component]:
            with self._use(name) as part, self.run.stage(stage):
                yield part

        return use

    def _free(self, *names: str) -> None:
        if not self.keep_all:
            self.session.release(*names)


def _writer(run: Run) -> Writer:
    def write(result: Result, target: str | Path, *, quality: int | None, private: bool) -> Path:
        used = DEFAULT_QUALITY if quality is None else quality
        inner = {**result.record["homereel"], "encoding": {"quality": used}}
        started = time.perf_counter()
        with run.stage("write"):
            path = media.write_clip(
                result.frames,
                target,
                fps=result.fps,
                record={"homereel": inner},
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
