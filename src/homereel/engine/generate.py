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
from homereel.core.events import OnProgress, Preview, ShouldStop
from homereel.core.plan import Plan
from homereel.core.protocols import Family
from homereel.core.request import MAX_SEED, Request
from homereel.core.result import Result, Writer, frames_sha256
from homereel.engine.denoise import Guides, StepDone, denoise
from homereel.engine.memory import peak_bytes, start_peak
from homereel.engine.record import build_record
from homereel.engine.run import Run
from homereel.engine.session import Session
from homereel.engine.state import DenoiseState, check_resumable, clip_fingerprint, first_state
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

    Raises InvalidRequest, MediaError, WeightsError, GenerationFailed or Stopped; then nothing is written.
    """
    run = Run(on_progress=on_progress, should_stop=should_stop)
    with nullcontext(session) if session else Session() as warm, _exact_convolutions():
        clip = _Clip(request, run=run, session=warm)
        if on_plan is not None:
            on_plan(clip.plan)
        start_peak(clip.plan.device)
        latents = clip.denoise(resume, guides=clip.guides(), on_state=on_state)
        frames = clip.decode(latents)
        return clip.result(frames, parents=parents)


def make_plan(request: Request, *, session: Session) -> Plan:
    """What `generate` would do, without doing it."""
    return _Clip(request, run=Run(on_progress=None, should_stop=None), session=session).plan


class _Clip:
    """The stages of one clip; each loads what it needs and frees it if the machine is small."""

    def __init__(self, request: Request, *, run: Run, session: Session) -> None:
        self.request, self.run, self.session = request, run, session
        self.family: Family = session.family(request.model)
        takes_image = request.image is not None and "image" in self.family.inputs
        self.image = media.read_image(request.image) if request.image and takes_image else None
        self.plan = plan_clip(
            request,
            model=self.family,
            machine=session.machine,
            fresh_seed=secrets.randbelow(MAX_SEED + 1),
            image_size=None if self.image is None else (self.image.shape[1], self.image.shape[0]),
            image_models=models_for_input("image"),
        )
        self.inputs = {} if self.image is None else {"image": frames_sha256(self.image[None])}
        self.keep_all = keeps_all(self.family, machine=session.machine)

    def guides(self) -> Guides:
        """The prompt, what to compare it with, and the first frame, all encoded."""
        encoder = self._load("text_encoder")
        with self.run.stage("text"):
            wanted = self.family.encode_text(encoder, self.request.prompt)
            guided = self.plan.guidance > 1
            other = self.family.encode_text(encoder, self.request.negative_prompt) if guided else None
        del encoder
        self._free("text_encoder")
        first_frame = self._first_frame()
        return Guides(
            prompt=self.family.conditions(wanted, first_frame=first_frame),
            negative=None if other is None else self.family.conditions(other, first_frame=first_frame),
        )

    def denoise(
        self, resume: DenoiseState | None, *, guides: Guides, on_state: Callable[[DenoiseState], None] | None
    ) -> Tensor:
        """Noise (or a saved state) to latents."""
        plan, family = self.plan, self.family
        fingerprint = clip_fingerprint(self.request, plan, inputs=self.inputs)
        if resume is not None:
            check_resumable(resume, plan=plan, fingerprint=fingerprint)
        shapes = family.shapes(width=plan.width, height=plan.height, num_frames=plan.num_frames, dtype=plan.dtype)
        state = resume or first_state(plan, shape=shapes.latents, fingerprint=fingerprint)
        self._load(family.denoiser(1000.0))
        started, first_step = time.perf_counter(), state.step

        def on_step(done: StepDone) -> None:
            step = done.state.step
            if on_state is not None:
                on_state(done.state)
            a_step = (time.perf_counter() - started) / (step - first_step)
            self.run.report(
                "denoise",
                step,
                plan.steps,
                remaining_seconds=a_step * (plan.steps - step),
                preview=self._preview(done),
            )

        with self.run.stage("denoise", num_steps=plan.steps):
            latents = denoise(
                state,
                plan=plan,
                family=family,
                guides=guides,
                component=lambda name: self.session.component(name, dtype=plan.dtype),
                stop_point=self.run.stop_point,
                on_step=on_step,
            )
        self._free(*(part for part in family.components if part != "vae"))
        return latents

    def decode(self, latents: Tensor) -> NDArray[np.uint8]:
        """Latents to frames. Raises GenerationFailed if they show nothing."""
        vae = self._load("vae")
        with self.run.stage("decode"):
            frames = self.family.decode(vae, latents)
        del vae
        self._free("vae")
        self.run.stop_point()
        if int(frames.max()) - int(frames.min()) < FLAT_LEVELS:
            level = "black" if frames.max() < FLAT_LEVELS else "one flat colour"
            raise GenerationFailed(f"the whole clip came out {level}; try another seed, or more steps")
        return frames

    def result(self, frames: NDArray[np.uint8], *, parents: tuple[str, ...]) -> Result:
        """The frames with what they took and how they can be made again."""
        peak, timing = peak_bytes(self.plan.device), self.run.timing()
        licence = model_licence(self.plan.model)
        record = build_record(
            request=self.request,
            plan=self.plan,
            machine=self.session.machine,
            file_hashes=self.session.file_hashes(),
            inputs=self.inputs,
            frames_sha256=frames_sha256(frames),
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
        )

    def _first_frame(self) -> Tensor | None:
        if self.image is None:
            return None
        vae = self._load("vae")
        with self.run.stage("text"):
            latents: Tensor = self.family.encode_image(vae, self.image, width=self.plan.width, height=self.plan.height)
        del vae
        self._free("vae")
        return latents

    def _preview(self, done: StepDone) -> Preview | None:
        """None where the VAE cannot lie beside the denoiser."""
        if not self.keep_all:
            return None
        return lambda: self.family.preview(self.session.component("vae", dtype=self.plan.dtype), done.picture())

    def _load(self, name: str) -> object:
        with self.run.stage("load"):
            return self.session.component(name, dtype=self.plan.dtype)

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
