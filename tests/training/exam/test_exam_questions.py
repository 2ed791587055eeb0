"""Questions are the same for ever, fair, and ask what their prompts say.

`prompts.txt` holds the first prompts. After a deliberate change of the world's words or of the questions, raise
EXAM_VERSION and write it anew:
    python -c "from homereel.training.exam import make_questions as ask; print(*(q.prompt for q in ask(48)), sep='\n')"
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from homereel.core.errors import InvalidRequest
from homereel.training.exam import TRAITS, Question, make_questions
from homereel.training.world import is_held_out, words
from homereel.training.world.caption import CAMERA, LIGHT


@cache
def questions() -> list[Question]:
    """The usual exam's; they take a second, which only those who ask should spend."""
    return make_questions(256)


def test_the_prompts_never_change() -> None:
    expected = (Path(__file__).parent / "prompts.txt").read_text().splitlines()
    assert [question.prompt for question in questions()[:48]] == expected


def test_a_longer_exam_begins_with_the_shorter_one() -> None:
    assert make_questions(10) == questions()[:10]
    assert make_questions(10, seed=1) != questions()[:10]


def test_scenes_are_kept_from_training_and_name_two_colors() -> None:
    assert all(is_held_out(question.scene) for question in questions())
    assert all(question.scene.color != question.scene.floor for question in questions())
    assert not any(
        (q.scene.color, q.scene.motion) == ("black", "spin") and q.scene.shape in ("ball", "ring") for q in questions()
    )


def test_prompts_name_what_is_asked_and_nothing_else() -> None:
    known = set(words())
    for question in questions():
        prompt, scene = question.prompt, question.scene
        assert f"{scene.color} " in prompt or prompt.split()[-1] == scene.color or f"is {scene.color}" in prompt
        assert f"{scene.floor} floor" in prompt or f"{scene.floor} ground" in prompt or f"is {scene.floor}" in prompt
        for trait, phrases in (("camera", CAMERA), ("light", LIGHT)):
            named = {name for name, said in phrases.items() if any(phrase and phrase in prompt for phrase in said)}
            assert named == ({getattr(scene, trait)} if trait in question.asked else set()), prompt
        assert set(prompt.replace(",", " ").replace(".", " ").split()) <= known
        assert scene.size == "medium"


def test_every_name_is_asked_equally_often() -> None:
    for trait in TRAITS:
        counts = Counter(getattr(question.scene, trait) for question in questions() if trait in question.asked)
        assert max(counts.values()) - min(counts.values()) <= 3, counts
    for trait in ("camera", "light"):
        share = sum(trait in question.asked for question in questions()) / len(questions())
        assert share == pytest.approx(1 / 3, abs=0.02)


def test_prompts_and_seeds_differ() -> None:
    assert len({question.prompt for question in questions()}) > 245
    assert len({question.seed for question in questions()}) == 256


def test_an_empty_exam_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="ask for 1 or more"):
        make_questions(0)
