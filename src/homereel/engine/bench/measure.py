"""Measures both sides in one run: a cold clip each, then warm ones in turn, so that noise hits both."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from homereel.engine.bench.baseline import exporter
from homereel.engine.bench.contest import Contest
from homereel.engine.bench.figures import Bench, Figures, SideFigures
from homereel.engine.record import machine_record, software_versions
from homereel.planning.machine import probe_machine

MIN_RUNS = 3
SIDES = ("baseline", "turbo")

MakeFrames = Callable[[str, int], NDArray[np.uint8]]
"""(prompt, seed) → frames (T, H, W, 3)."""
Grade = Callable[[str, Sequence[MakeFrames]], float]
"""The name of a side, and those that make its clips, which may do so side by side → its score."""


class Maker(Protocol):
    """A side that runs: `SideProcess`. `started` is when its process was, by time.perf_counter."""

    @property
    def started(self) -> float: ...

    def clip(self, prompt: str, seed: int, *, target: Path | None = None, frames: Path | None = None) -> Figures: ...


class StartSide(Protocol):
    """Starts a side by its name and what it is told, with so many threads or as many as there are."""

    def __call__(
        self, name: str, told: Mapping[str, Any], *, num_threads: int | None = None
    ) -> AbstractContextManager[Maker]: ...


@dataclass
class _Side:
    name: str
    maker: Maker
    cold_seconds: float = 0.0
    cold: Figures | None = None
    warm: list[Figures] = field(default_factory=list)
    exam: float | None = None

    def figures(self) -> SideFigures:
        assert self.cold is not None, "the cold clip comes first"
        return SideFigures(self.cold_seconds, self.cold, tuple(self.warm), self.exam)


def measure(
    contest: Contest,
    *,
    prompt: str,
    start: StartSide,
    runs: int = MIN_RUNS,
    grade: Grade | None = None,
    exam_clips: int = 0,
    on_clip: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Bench:
    """`runs` warm clips a side, at least MIN_RUNS, after a cold one; `on_clip` is told what begins.

    `grade` measures how good a side's clips are, while its process is there. Sides that do not fit side by side run
    one after the other. Raises what `start` and its clips raise.
    """
    assert runs >= MIN_RUNS
    told = {"baseline": contest.baseline, "turbo": contest.turbo.model_dump(mode="json")}
    done: dict[str, _Side] = {}
    with tempfile.TemporaryDirectory(prefix="homereel-bench-") as folder:
        run = _Run(Path(folder), prompt=prompt, runs=runs, on_clip=on_clip, clock=clock)
        for group in [SIDES] if contest.together else [(name,) for name in SIDES]:
            with ExitStack() as stack:
                sides = []
                for name in group:
                    on_clip(f"{name}, cold start")
                    sides.append(_Side(name, stack.enter_context(start(name, told[name]))))
                    run.cold(sides[-1])
                run.warm(sides)
                done |= {side.name: side for side in sides}
                for side in sides if grade is not None else ():
                    assert grade is not None
                    with _makers(side, told[side.name], contest=contest, start=start) as makers:
                        makes = [frames_of(each, run.folder / f"{index}.npy") for index, each in enumerate(makers)]
                        side.exam = grade(side.name, makes)
    plans = {
        "baseline": {
            **contest.baseline_plan.as_dict(),
            "seed": None,
            "exporter": exporter(),
            "sampler": "the pipeline's",
        },
        "turbo": {**contest.turbo_plan.as_dict(), "seed": None},
    }
    return Bench(
        baseline=done["baseline"].figures(),
        turbo=done["turbo"].figures(),
        plans=plans,
        machine={**machine_record(probe_machine()), "software": software_versions()},
        prompt=prompt,
        interleaved=contest.together,
        exam_clips=0 if grade is None else exam_clips,
        remarks=contest.remarks,
    )


def frames_of(maker: Maker, file: Path) -> MakeFrames:
    """What an exam asks for clips; `file` is its own."""

    def make(prompt: str, seed: int) -> NDArray[np.uint8]:
        maker.clip(prompt, seed, frames=file)
        frames: NDArray[np.uint8] = np.load(file)
        return frames

    return make


@contextmanager
def _makers(side: _Side, told: Mapping[str, Any], *, contest: Contest, start: StartSide) -> Iterator[Sequence[Maker]]:
    """Who answers an exam's questions: the side itself, or processes of it with a thread each."""
    if contest.exam_processes == 1:
        yield (side.maker,)
        return
    with ExitStack() as stack:
        yield [stack.enter_context(start(side.name, told, num_threads=1)) for _ in range(contest.exam_processes)]


@dataclass(frozen=True)
class _Run:
    folder: Path
    prompt: str
    runs: int
    on_clip: Callable[[str], None]
    clock: Callable[[], float]

    def cold(self, side: _Side) -> None:
        """The first clip of a process: from its start to the finished file."""
        side.cold = side.maker.clip(self.prompt, 0, target=self.folder / f"{side.name}-cold.mp4")
        side.cold_seconds = self.clock() - side.maker.started

    def warm(self, sides: list[_Side]) -> None:
        """Clips in turn; who begins changes from round to round."""
        for index, side in self._turns(sides):
            self.on_clip(f"{side.name}, warm {index} of {self.runs}")
            target = self.folder / f"{side.name}-{index}.mp4"
            side.warm.append(side.maker.clip(self.prompt, index, target=target))
            target.unlink(missing_ok=True)

    def _turns(self, sides: list[_Side]) -> Iterator[tuple[int, _Side]]:
        for index in range(1, self.runs + 1):
            yield from ((index, side) for side in (sides if index % 2 else reversed(sides)))
