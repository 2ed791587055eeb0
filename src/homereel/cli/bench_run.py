"""Carries out `homereel bench`: checks what was asked, has the engine measure, and the exam grade."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from homereel.cli.exam_run import MIN_FRAMES, Clock
from homereel.cli.fidelity_prompts import PROMPTS
from homereel.cli.progress import Display
from homereel.cli.size import read_size
from homereel.core.errors import InvalidRequest

if TYPE_CHECKING:
    from homereel.engine.bench.contest import Contest
    from homereel.engine.bench.figures import Bench
    from homereel.engine.bench.measure import Grade, MakeFrames

_DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Asked:
    """The words of the command line; None is what was not given."""

    model: str
    turbo_model: str | None
    steps: int | None
    passes: str | None
    turbo: str | None
    baseline_steps: int
    baseline_dtype: str | None
    prompt: str | None
    size: str | None
    num_frames: int | None
    runs: int
    exam: int


def run_bench(asked: Asked, *, display: Display, should_stop: Callable[[], bool]) -> Bench:
    """Settle, measure, grade. Raises InvalidRequest and the like before a process is started, Stopped and what
    `generate` raises after."""
    contest, prompt = _settle(asked)
    from homereel.engine.bench.measure import measure
    from homereel.engine.bench.process import start_side

    return measure(
        contest,
        prompt=prompt,
        start=partial(start_side, should_stop=should_stop),
        runs=asked.runs,
        grade=_grade(asked, fps=contest.baseline_plan.fps, display=display) if asked.exam else None,
        exam_clips=asked.exam,
        on_clip=lambda label: display.count(label, 0, 1, left_seconds=None),
    )


def _settle(asked: Asked) -> tuple[Contest, str]:
    from homereel.models.registry import model_facts

    if asked.baseline_dtype not in (None, *_DTYPES):
        raise InvalidRequest(
            f"--baseline-dtype: {asked.baseline_dtype!r} is none; there are {', '.join(_DTYPES)}", field="dtype"
        )
    facts = model_facts(asked.model)
    width, height = None, None
    if asked.size is not None:
        width, height = read_size(asked.size, grid=facts.grid, defaults=facts.defaults)
    prompt = asked.prompt or (_words(facts.vocabulary()) or PROMPTS[0])
    from homereel.engine.bench.contest import Wish, settle_contest

    wish = Wish(
        model=asked.model,
        turbo_model=asked.turbo_model,
        steps=asked.steps,
        baseline_steps=asked.baseline_steps,
        baseline_dtype=asked.baseline_dtype,
        width=width,
        height=height,
        num_frames=asked.num_frames,
        passes=asked.passes,
        turbo=asked.turbo,
    )
    contest = settle_contest(wish, prompt=prompt)
    if asked.exam and contest.baseline_plan.num_frames < MIN_FRAMES:
        raise InvalidRequest(
            f"--exam: clips of {contest.baseline_plan.num_frames} frames show no motion; the exam needs {MIN_FRAMES}",
            field="exam",
        )
    return contest, prompt


def _words(vocabulary: tuple[str, ...]) -> str | None:
    """What a model of few words is asked for."""
    return "a red ball bounces on a green floor" if vocabulary else None


def _grade(asked: Asked, *, fps: float, display: Display) -> Grade:
    """Both sides answer the same questions; the share of clips in which all is right."""

    def grade(name: str, makers: Sequence[MakeFrames]) -> float:
        from homereel.training.exam import run_exam

        clock = Clock(display, label=f"{name}, exam", total=asked.exam)
        clock.tick(0)
        result = run_exam(makers, num_clips=asked.exam, fps=fps, on_progress=lambda done, _: clock.tick(done))
        return round(result.score.score, 4)

    return grade
