"""The exam as a whole: a perfect maker reaches the ceiling, a wrong one is told what it confuses."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from homereel.core.errors import GenerationFailed
from homereel.training.exam import ClipSize, Question, Reading, grade, make_questions, run_exam
from homereel.training.world import draw

BY_PROMPT = {question.prompt: question for question in make_questions(12)}


def perfect(prompt: str, seed: int) -> NDArray[np.uint8]:
    assert BY_PROMPT[prompt].seed == seed
    drawn: NDArray[np.uint8] = draw(BY_PROMPT[prompt].scene, num_frames=25).frames_TCHW.permute(0, 2, 3, 1).numpy()
    return drawn


def always_orange(prompt: str, seed: int) -> torch.Tensor:
    return draw(replace(BY_PROMPT[prompt].scene, color="orange")).frames_TCHW


def test_a_perfect_maker_reaches_the_ceiling() -> None:
    told: list[tuple[int, int]] = []
    result = run_exam(perfect, num_clips=12, on_progress=lambda done, total: told.append((done, total)))
    assert told == [(index + 1, 12) for index in range(12)]
    assert result.score.score == result.ceiling.score == 1
    assert result.size == ClipSize(num_frames=25)
    plain = json.loads(json.dumps(result.to_json()))
    assert {"score", "traits", "ceiling", "ceiling_traits", "clips", "confusions"} <= set(plain)
    assert (plain["score"], plain["ceiling"], plain["clips"], plain["confusions"]) == (1, 1, 12, [])
    assert plain["asked"]["color"] == 12


def test_a_wrong_maker_is_told_what_it_confuses() -> None:
    result = run_exam(always_orange, num_clips=12)
    right = sum(question.scene.color == "orange" for question in BY_PROMPT.values())
    assert result.score.traits["color"] == pytest.approx(right / 12)
    assert result.score.traits["shape"] == result.ceiling.traits["color"] == 1
    assert result.score.score == pytest.approx(right / 12)
    assert {(wrong.trait, wrong.read) for wrong in result.score.confusions} == {("color", "orange")}
    assert sum(wrong.count for wrong in result.score.confusions) == 12 - right


def test_readers_in_other_processes_say_the_same() -> None:
    alone, helped = (run_exam(perfect, num_clips=3, workers=workers) for workers in (1, 2))
    assert alone.readings == helped.readings
    assert alone.ceiling == helped.ceiling


def test_several_makers_answer_side_by_side() -> None:
    """Each waits until both are at work, which one after the other they never would be."""
    together = threading.Barrier(2, timeout=30)

    def waiting(prompt: str, seed: int) -> NDArray[np.uint8]:
        together.wait()
        return perfect(prompt, seed)

    alone, helped = run_exam(perfect, num_clips=4), run_exam([waiting, waiting], num_clips=4)
    assert alone.readings == helped.readings


def test_a_maker_that_fails_ends_the_exam() -> None:
    made: list[str] = []

    def failing(prompt: str, seed: int) -> NDArray[np.uint8]:
        made.append(prompt)
        raise GenerationFailed("no clip")

    with pytest.raises(GenerationFailed, match="no clip"):
        run_exam([failing, failing], num_clips=40)
    assert len(made) < 10


def test_grades_count_what_was_asked_only() -> None:
    scene = make_questions(1)[0].scene
    asked = Question("", scene, ("color", "shape"), seed=0)
    right = Reading(color=scene.color, shape=scene.shape)
    score = grade([right, replace(right, shape=None), Reading()], [asked] * 3)
    assert score.score == pytest.approx(1 / 3)
    assert score.traits == {"color": pytest.approx(2 / 3), "shape": pytest.approx(1 / 3)}
    assert score.asked == {"color": 3, "shape": 3}
    assert (score.confusions[0].trait, score.confusions[0].read, score.confusions[0].count) == ("shape", None, 2)


def test_grading_needs_a_reading_a_question() -> None:
    with pytest.raises(ValueError, match="argument"):
        grade([Reading()], make_questions(2))
