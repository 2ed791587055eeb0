"""Carries out `homereel exam`: the engine makes the clips (or the autoencoder restores drawn ones), the exam grades."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from homereel.cli.progress import Display
from homereel.cli.size import read_size
from homereel.core.errors import InvalidRequest, Stopped

if TYPE_CHECKING:
    from torch import Tensor

    from homereel.core.machine import Machine
    from homereel.core.request import Request
    from homereel.engine.bench.measure import MakeFrames
    from homereel.engine.session import Session

# Fewer frames show no motion.
MIN_FRAMES = 8
_MAX_RESTORED = 32  # drawn clips by which an autoencoder's PSNR is told


@dataclass(frozen=True)
class Examination:
    """What to examine, and how; None is the model's own."""

    model: str
    num_clips: int
    seed: int
    workers: int
    steps: int | None
    guidance: float | None
    size: str | None


def examine(wanted: Examination, *, display: Display, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Have the model make every clip of the exam, and grade them. Raises Stopped, and what `generate` raises."""
    from homereel.engine.generate import make_plan
    from homereel.engine.session import Session
    from homereel.training.exam import run_exam

    request, fps = _request(wanted)
    clock = Clock(display, label="clips", total=wanted.num_clips)
    with ExitStack() as stack:
        session = stack.enter_context(Session())
        plan = make_plan(request.replace(seed=0), session=session)
        if wanted.workers > 1 and session.machine.device == "cpu":
            makers = _processes(request, wanted.workers, machine=session.machine, stack=stack, should_stop=should_stop)
        else:
            makers = [_here(request, session=session, should_stop=should_stop)]
        clock.tick(0)
        try:
            result = run_exam(
                makers,
                num_clips=wanted.num_clips,
                seed=wanted.seed,
                fps=fps,
                on_progress=lambda done, _: clock.tick(done),
                workers=wanted.workers,
            )
        except Exception:
            if should_stop():  # a Ctrl-C ends the readers, too, in their own way
                raise Stopped("stopped; there is no score") from None
            raise
    settings = {name: getattr(plan, name) for name in ("model", "steps", "guidance", "shift", "sampler", "dtype")}
    return {**result.to_json(), **settings}


def _here(request: Request, *, session: Session, should_stop: Callable[[], bool]) -> MakeFrames:
    from homereel.engine.generate import generate

    return lambda prompt, seed: (
        generate(request.replace(prompt=prompt, seed=seed), session=session, should_stop=should_stop).frames
    )


def _processes(
    request: Request, count: int, *, machine: Machine, stack: ExitStack, should_stop: Callable[[], bool]
) -> list[MakeFrames]:
    """So many processes that make clips, each with its share of the threads."""
    import tempfile
    from pathlib import Path

    from homereel.engine.bench.measure import frames_of
    from homereel.engine.bench.process import start_side

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="homereel-exam-")))
    told, threads = request.model_dump(mode="json"), max(1, machine.num_threads // count)
    sides = [
        stack.enter_context(start_side("turbo", told, num_threads=threads, should_stop=should_stop))
        for _ in range(count)
    ]
    return [frames_of(side, file=folder / f"{index}.npy") for index, side in enumerate(sides)]


def examine_autoencoder(wanted: Examination, *, display: Display, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Grade drawn clips after the model's autoencoder: what it blurs, no transformer can show."""
    from homereel.engine.session import Session
    from homereel.training.exam import ClipSize, grade_drawn, make_questions
    from homereel.training.reconstruction import measure_reconstruction, restore

    request, fps = _request(wanted)
    questions = make_questions(wanted.num_clips, seed=wanted.seed)
    clock = Clock(display, label="clips through the autoencoder", total=wanted.num_clips)
    with Session() as session:
        defaults = session.family(wanted.model).defaults
        size = ClipSize(
            height=request.height or defaults.height,
            width=request.width or defaults.width,
            num_frames=defaults.num_frames,
            fps=fps,
        )
        vae = session.component("vae", dtype="float32")
        done = 0

        def through(frames_TCHW: Tensor) -> Tensor:
            nonlocal done
            if should_stop():
                raise Stopped("stopped; there is no score")
            restored = restore(vae, frames_TCHW)
            done += 1
            clock.tick(done)
            return restored

        clock.tick(0)
        score = grade_drawn(questions, size=size, through=through)
        kept = measure_reconstruction(vae, num_clips=min(wanted.num_clips, _MAX_RESTORED))
    ceiling = grade_drawn(questions, size=size)
    return {
        "score": round(score.score, 4),
        "traits": {name: round(share, 4) for name, share in score.traits.items()},
        "ceiling": round(ceiling.score, 4),
        "ceiling_traits": {name: round(share, 4) for name, share in ceiling.traits.items()},
        "clips": score.num_clips,
        "asked": score.asked,
        "confusions": [confusion.__dict__ for confusion in score.confusions],
        "seed": wanted.seed,
        "model": wanted.model,
        "through": "vae",
        "psnr": round(kept.psnr, 2),
        "object_psnr": round(kept.object_psnr, 2),
    }


def _request(wanted: Examination) -> tuple[Request, float]:
    """The request that all clips share, and their frames a second."""
    from homereel.core.request import Request
    from homereel.models.registry import model_facts

    facts = model_facts(wanted.model)
    frames = facts.defaults.num_frames
    if frames < MIN_FRAMES:
        raise InvalidRequest(
            f"{wanted.model} makes clips of {frames} frames; the exam needs {MIN_FRAMES} or more to see motion",
            field="model",
        )
    width, height = None, None
    if wanted.size is not None:
        width, height = read_size(wanted.size, grid=facts.grid, defaults=facts.defaults)
    request = Request(
        prompt="a question",
        model=wanted.model,
        steps=wanted.steps,
        guidance=wanted.guidance,
        width=width,
        height=height,
    )
    return request, facts.defaults.fps


class Clock:
    """Counts clips on the display, and reckons how long the rest will take."""

    def __init__(self, display: Display, *, label: str, total: int) -> None:
        self._display, self._label, self._total = display, label, total
        self._started = time.perf_counter()

    def tick(self, done: int) -> None:
        spent = time.perf_counter() - self._started
        left = spent / done * (self._total - done) if done else None
        self._display.count(self._label, done, self._total, left_seconds=left)
