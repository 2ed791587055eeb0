"""The bench: what it reckons from given figures, whom it lets run, both sides with a tiny model, their processes."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from homereel import media
from homereel.core.errors import GenerationFailed, InvalidRequest, Stopped, UnsupportedPass
from homereel.engine.bench import child, process
from homereel.engine.bench.contest import Contest, Wish, settle_contest
from homereel.engine.bench.figures import Figures
from homereel.engine.bench.measure import measure
from homereel.engine.bench.process import start_side
from tests.tiny_models import save_tiny_kind

PROMPT = "a red ball falls"


@pytest.fixture(scope="module")
def contest(tiny_model_dir: Path) -> Contest:
    return settle_contest(Wish(str(tiny_model_dir), baseline_steps=4, steps=2), prompt=PROMPT)


class Clock:
    """Seconds that pass only where a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Scripted:
    """Sides whose clips take so long: 3 s to start, then (load, text, transformer, vae, encode) of a list, over and
    over."""

    def __init__(self, clips: Mapping[str, list[tuple[float, ...]]]) -> None:
        self.clock, self.clips = Clock(), clips
        self.calls: list[str] = []
        self.alive: list[str] = []
        self.started: list[tuple[str, int | None]] = []

    @contextmanager
    def start(self, name: str, told: Mapping[str, Any], *, num_threads: int | None = None) -> Iterator[Any]:
        assert told
        outer = self
        self.alive.append(name)
        self.started.append((name, num_threads))

        class Side:
            started = outer.clock.now
            made = 0

            def clip(
                self, prompt: str, seed: int, *, target: Path | None = None, frames: Path | None = None
            ) -> Figures:
                load, text, transformer, vae, encode = outer.clips[name][self.made % len(outer.clips[name])]
                outer.calls.append(f"{name} {seed}" if target else f"{name} exam {prompt}")
                total = load + text + transformer + vae + encode + 0.5
                outer.clock.now += total
                if frames is not None:
                    np.save(frames, np.full((9, 4, 4, 3), seed, np.uint8))
                self.made += 1
                return Figures(total, text, transformer, vae, encode, load, peak_bytes=1000 + self.made)

        self.clock.now += 3
        yield Side()
        self.alive.remove(name)


SLOW: list[tuple[float, ...]] = [
    (4.0, 1.0, 40.0, 6.0, 1.0),
    (0.0, 1.0, 40.0, 6.0, 1.0),
    (0.0, 1.0, 44.0, 7.0, 1.0),
    (0.0, 1.0, 60.0, 9.0, 2.0),
]
FAST: list[tuple[float, ...]] = [
    (4.0, 0.5, 2.0, 2.0, 0.5),
    (0.0, 0.5, 2.0, 2.0, 0.5),
    (0.0, 0.5, 1.0, 1.0, 0.5),
    (0.0, 0.5, 3.0, 3.0, 0.5),
]


def test_medians_ratios_and_turns(contest: Contest) -> None:
    scripted = Scripted({"baseline": SLOW, "turbo": FAST})
    found = measure(contest, prompt=PROMPT, start=scripted.start, clock=scripted.clock).as_dict()
    order = ["baseline 0", "turbo 0", "baseline 1", "turbo 1", "turbo 2", "baseline 2", "baseline 3", "turbo 3"]
    assert scripted.calls == order
    assert scripted.alive == []
    assert found["baseline_seconds"] == statistics.median([48.5, 53.5, 72.5])
    assert found["turbo_seconds"] == statistics.median([5.5, 3.5, 7.5])
    assert found["ratio"] == pytest.approx(53.5 / 5.5)
    assert (found["baseline_transformer_seconds"], found["turbo_transformer_seconds"]) == (44, 2)
    assert (found["transformer_ratio"], found["vae_ratio"]) == (22, 3.5)
    assert found["split"]["turbo"] == {
        **{"load": 0, "text": 0.5, "transformer": 2, "vae": 2, "encode": 0.5},
        "other": pytest.approx(0.5),
    }
    assert found["cold"]["baseline_seconds"] == 3 + 52.5
    assert found["cold"]["turbo_seconds"] == 3 + 9.5
    assert found["peak"] == {"baseline_bytes": 1004, "turbo_bytes": 1004}
    assert (found["baseline_exam"], found["turbo_exam"], found["exam_clips"]) == (None, None, 0)
    assert (found["interleaved"], found["num_warm"], len(found["clips"]["turbo"]["warm"])) == (True, 3, 3)
    json.dumps(found, allow_nan=False)


def test_sides_that_do_not_fit_together_run_alone(contest: Contest) -> None:
    scripted = Scripted({"baseline": SLOW, "turbo": FAST})
    alone = Contest(**{**contest.__dict__, "together": False})
    seen: list[tuple[str, list[str]]] = []
    found = measure(
        alone,
        prompt=PROMPT,
        start=scripted.start,
        clock=scripted.clock,
        on_clip=lambda label: seen.append((label, [*scripted.alive])),
    )
    assert not found.interleaved
    assert scripted.calls == [f"{name} {seed}" for name in ("baseline", "turbo") for seed in range(4)]
    assert all(set(alive) <= {label.partition(",")[0]} for label, alive in seen)


@pytest.mark.parametrize("processes", [1, 2])
def test_both_sides_are_examined_with_the_same_questions(contest: Contest, processes: int) -> None:
    scripted = Scripted({"baseline": SLOW, "turbo": FAST})
    contest = replace(contest, exam_processes=processes)

    def grade(name: str, makers: Any) -> float:
        assert len(makers) == processes
        clips = [makers[seed % processes](words, seed) for seed, words in enumerate(("a red ball", "a blue cube"))]
        assert [int(clip[0, 0, 0, 0]) for clip in clips] == [0, 1]
        return {"baseline": 0.9, "turbo": 0.875}[name]

    found = measure(
        contest, prompt=PROMPT, start=scripted.start, clock=scripted.clock, grade=grade, exam_clips=2
    ).as_dict()
    assert (found["baseline_exam"], found["turbo_exam"], found["exam_clips"]) == (0.9, 0.875, 2)
    assert scripted.calls[8:] == [
        f"{name} exam {words}" for name in ("baseline", "turbo") for words in ("a red ball", "a blue cube")
    ]
    assert found["num_warm"] == 3, "clips of the exam do not count"
    helpers = [("baseline", 1), ("baseline", 1), ("turbo", 1), ("turbo", 1)] if processes == 2 else []
    assert scripted.started == [("baseline", None), ("turbo", None), *helpers]
    assert scripted.alive == []


def test_a_model_without_a_student_stands_in_for_one(contest: Contest) -> None:
    assert (contest.baseline_plan.steps, contest.baseline_plan.guidance) == (4, 3.0)
    assert (contest.turbo_plan.steps, contest.turbo_plan.guidance) == (2, 1.0)
    assert contest.turbo_plan.model == contest.baseline_plan.model
    assert any("no student" in remark for remark in contest.remarks)


def test_the_card_names_the_student(tiny_model_dir: Path, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(tiny_model_dir, teacher)
    shutil.copytree(tiny_model_dir, teacher / "student")
    for folder, changes in (
        (teacher, {"student": "student"}),
        (teacher / "student", {"defaults": {"sampler": "rcm", "steps": 2, "guidance": 1}}),
    ):
        card = json.loads((folder / "homereel.json").read_text())
        card["defaults"] |= changes.pop("defaults", {})
        (folder / "homereel.json").write_text(json.dumps(card | changes))
    found = settle_contest(Wish(str(teacher)), prompt=PROMPT)
    assert found.turbo_plan.model == str(teacher / "student")
    assert (found.turbo_plan.steps, found.turbo_plan.guidance, found.turbo_plan.sampler) == (2, 1, "rcm")
    assert (found.baseline_plan.steps, found.baseline_plan.sampler) == (50, "unipc")
    assert not any("no student" in remark for remark in found.remarks)
    other = settle_contest(Wish(str(teacher), turbo_model=str(tiny_model_dir), steps=3), prompt=PROMPT)
    assert (other.turbo_plan.model, other.turbo_plan.steps) == (str(tiny_model_dir), 3)


def test_both_make_clips_of_one_size(tiny_model_dir: Path) -> None:
    found = settle_contest(Wish(str(tiny_model_dir), width=48, height=32, num_frames=9), prompt=PROMPT)
    for plan in (found.baseline_plan, found.turbo_plan):
        assert (plan.width, plan.height, plan.num_frames) == (48, 32, 9)
    assert (found.baseline["width"], found.baseline["num_frames"]) == (48, 9)


def test_models_that_the_pipeline_cannot_run_are_refused(tmp_path: Path) -> None:
    folder = save_tiny_kind(tmp_path / "vace", "vace")
    with pytest.raises(InvalidRequest, match=r"is a WanVACEPipeline.*WanPipeline.*pocket, wan2\.1-t2v-1\.3b"):
        settle_contest(Wish(str(folder)), prompt=PROMPT)


@contextmanager
def in_this_process(name: str, told: Mapping[str, Any], **others: Any) -> Iterator[Any]:
    """What a child does, without a child."""
    side = child.open_side(
        json.loads(json.dumps({"side": name, "told": told, "num_threads": others.get("num_threads")}))
    )

    class Here:
        started = 0.0

        def clip(self, prompt: str, seed: int, *, target: Path | None = None, frames: Path | None = None) -> Figures:
            figures, made = side.make(prompt, seed, target=target, keep_frames=frames is not None)
            assert (made is None) == (frames is None)
            if frames is not None:
                np.save(frames, made)
            if target is not None:
                assert media.probe(target).num_frames in (5, 9)
            return Figures.parse(json.loads(json.dumps(figures.as_dict())))

    yield Here()
    side.close()


def test_both_sides_make_clips(contest: Contest) -> None:
    shapes: dict[str, tuple[int, ...]] = {}

    def grade(name: str, makers: Any) -> float:
        frames = makers[-1]("a blue cube spins", 5)
        assert frames.dtype == np.uint8
        assert np.ptp(frames) > 8
        shapes[name] = frames.shape
        return 0.0

    found = measure(contest, prompt=PROMPT, start=in_this_process, grade=grade, exam_clips=1).as_dict()
    assert shapes == {"baseline": (5, 32, 32, 3), "turbo": (5, 32, 32, 3)}
    for side in ("baseline", "turbo"):
        split = found["split"][side]
        assert min(split[stage] for stage in ("text", "transformer", "vae", "encode")) > 0
        assert found["cold"]["split"][side]["load"] > 0
        assert split["load"] < 0.05
        for clip in found["clips"][side]["warm"]:
            assert sum(clip[f"{stage}_seconds"] for stage in split) == pytest.approx(clip["total_seconds"])
        assert found["peak"][f"{side}_bytes"] > 2**20


FAKE = """
import sys, json
sys.path[:] = json.loads(sys.argv[1])
from homereel.core.errors import UnsupportedPass
from homereel.engine.bench import child
from homereel.engine.bench.figures import Figures
class Side:
    def make(self, prompt, seed, *, target, keep_frames):
        print("a library talks")
        if prompt == "refuse":
            raise UnsupportedPass("not here; leave it out")
        if prompt == "break":
            raise ValueError("a bug")
        if prompt == "die":
            sys.exit("the end is near")
        if prompt == "hang":
            import time
            time.sleep(600)
        return Figures(3.0, 1.0, 1.0, 0.5, 0.25, 0.0, seed), [[seed]]
    def close(self):
        pass
child.open_side = lambda told: Side()
child.main()
"""


@pytest.fixture
def fake_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes as they are, but for the models in them."""
    monkeypatch.setattr(process, "_CODE", FAKE)


@pytest.mark.usefixtures("fake_child")
def test_a_process_answers_and_tells_what_goes_wrong(tmp_path: Path) -> None:
    with start_side("turbo", {}) as side:
        assert side.clip(PROMPT, 7, target=tmp_path / "a.mp4").peak_bytes == 7
        side.clip(PROMPT, 8, frames=tmp_path / "frames.npy")
        assert np.load(tmp_path / "frames.npy").tolist() == [[8]]
        with pytest.raises(UnsupportedPass, match="not here; leave it out"):
            side.clip("refuse", 1)
        with pytest.raises(GenerationFailed, match="turbo side failed: ValueError: a bug"):
            side.clip("break", 1)
        assert side.clip(PROMPT, 9).total_seconds == 3
        for prompt in ("die", "are you there?"):
            with pytest.raises(GenerationFailed, match="ended without an answer: the end is near"):
                side.clip(prompt, 1)


@pytest.mark.usefixtures("fake_child")
def test_a_stop_ends_a_process_in_the_middle() -> None:
    asked: list[bool] = []
    with start_side("baseline", {}, should_stop=lambda: bool(asked)) as side:
        asked.append(True)
        with pytest.raises(Stopped, match="nothing was measured"):
            side.clip("hang", 1)
    assert side._process.returncode is not None
    assert not side._reader.is_alive()


@pytest.mark.slow
def test_real_processes(contest: Contest) -> None:
    found = measure(contest, prompt=PROMPT, start=start_side).as_dict()
    assert found["cold"]["turbo_seconds"] > found["turbo_seconds"]
    assert found["peak"]["baseline_bytes"] > 100 * 2**20
