"""The stages of one clip, from the settled request to decoded frames; `generate.py` is the door to them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from homereel.core.environment import read_environment
from homereel.core.events import Preview, Stage
from homereel.core.plan import Plan
from homereel.core.protocols import Component, Conditions, Family, Use
from homereel.core.request import MAX_SEED, Request
from homereel.core.result import sound_sha256
from homereel.core.sound import Sound
from homereel.engine.decoding import Decoding
from homereel.engine.denoise import Loop, StepDone
from homereel.engine.kept import decoder_word, keep_latents
from homereel.engine.ladder import Ladder
from homereel.engine.loras import DENOISERS, check_loras
from homereel.engine.memory import peak_bytes
from homereel.engine.passes import check_resumable_with, choose_passes, pass_files, streaming_of
from homereel.engine.record import build_record
from homereel.engine.run import Run
from homereel.engine.session import Session
from homereel.engine.sources import Sources, input_hashes
from homereel.engine.state import DenoiseState, check_resumable, clip_fingerprint
from homereel.engine.words import read_words
from homereel.models.registry import model_licence, models_for_input
from homereel.passes.residency import with_residency
from homereel.planning.costed import with_costs
from homereel.planning.ledger import Ledger
from homereel.planning.memory import keeps_all
from homereel.planning.plan import plan_clip
from homereel.planning.words import Reader, read_before


class Clip:
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
            extend_from=self.sources.extend_from,
        )
        self.plan = replace(self.plan, warnings=(*self.plan.warnings, *self.loras.warnings))
        self.passes, self.plan = choose_passes(request, self.plan, family=self.family, machine=session.machine)
        self.plan = with_costs(
            self.plan,
            model=self.family,
            machine=session.machine,
            ledger=Ledger.open(read_environment().home),
            read=self._read_before(),
        )
        self.input_hashes: dict[str, str] = {}
        self.keep_all = keeps_all(self.family, machine=session.machine)
        self.on_plan: Callable[[Plan], None] | None = None  # told of a plan that had to be changed midway

    def _read_before(self) -> frozenset[Reader]:
        """By whom the words were read for an earlier clip. An encoder that is still loaded is simply asked again."""
        session, plan = self.session, self.plan
        if any(session.is_loaded(part, dtype=plan.dtype) for part in self.family.readers):
            return frozenset()
        return read_before(session.words, request=self.request, plan=plan, model=self.family, machine=session.machine)

    def encode(self) -> Conditions:
        """All that steers the clip: words, pictures, footage."""
        inputs = self.sources.read(self.plan, decoder=lambda: decoder_word(self.session.file_hashes()))
        self.input_hashes = input_hashes(inputs, self.sources)
        self.input_hashes |= {f"loras.{index}": digest for index, digest in enumerate(self.loras.hashes)}
        self.input_hashes |= pass_files(self.passes)
        self.session.use_loras(self.request.loras, hashes=self.loras.hashes)
        self.place()
        use = self._timed_use("text")
        words = read_words(
            self.request,
            plan=self.plan,
            family=self.family,
            machine=self.session.machine,
            store=self.session.words,
            hashes=self.session.file_hashes,
            use=use,
        )
        return self.family.encode(inputs, plan=self.plan, use=use, words=words)

    def place(self) -> None:
        """Parts are loaded from now on as the plan has them lie: passes put on, blocks where they belong."""
        residency = self.plan.residency
        on_host = residency is not None and residency.text_encoder == "cpu"
        self.session.use_text_device("cpu" if on_host else self.plan.device)
        self.session.use_passes(with_residency(self.passes, streaming_of(self.plan, family=self.family)))

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

    def decode_sound(self, latents: Tensor) -> Sound | None:
        """The clip's sound, if it has any."""

        def decode() -> Sound | None:
            return self.family.decode_sound(latents, plan=self.plan, use=self._timed_use("decode"))

        return Ladder(self, on_plan=self.on_plan).sound(decode)

    def decoding(self, latents: Tensor) -> Decoding:
        """Its frames, not yet computed."""
        decoder = Ladder(self, on_plan=self.on_plan).decoder()
        return Decoding(latents, plan=self.plan, family=decoder, use=self._use, run=self.run)

    def keep(self, latents: Tensor, *, path: Path, frames_sha256: str) -> Path | None:
        """Put the latents beside the clip, if a clip of this family can start from them."""
        if not {"refine", "extend"} & self.family.inputs:
            return None
        return keep_latents(
            path, latents, plan=self.plan, frames_sha256=frames_sha256, file_hashes=self.session.file_hashes()
        )

    def record(self, *, frames_sha256: str, sound: Sound | None, parents: tuple[str, ...]) -> dict[str, Any]:
        """What it took so far, and how it can be made again."""
        licence = model_licence(self.plan.model)
        return build_record(
            request=self.request,
            plan=self.plan,
            machine=self.session.machine,
            file_hashes=self.session.file_hashes(),
            inputs=self.input_hashes,
            loras=self.loras.records,
            frames_sha256=frames_sha256,
            sound_sha256=None if sound is None else sound_sha256(sound),
            timing=self.run.timing(),
            peak_bytes=peak_bytes(self.plan.device),
            parents=parents,
            licence=None if licence is None else licence.model_dump(include={"name", "kind", "url"}),
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
            # Experts whose blocks travel share their room on the device, and lie side by side on the host.
            travels = streaming_of(self.plan, family=self.family) is not None
            self._free(*(part for part in self.family.components if not (travels and part in DENOISERS)))
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
