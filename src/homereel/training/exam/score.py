"""Compares what was asked with what was read, and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from homereel.training.exam.questions import Question
from homereel.training.exam.reader import TRAITS, Reading


@dataclass(frozen=True)
class Confusion:
    """A trait that was asked as one thing and read as another (None: as nothing the world knows), so many times."""

    trait: str
    asked: str
    read: str | None
    count: int


@dataclass(frozen=True)
class Score:
    """`score`: the share of clips with all asked traits right. `traits`: a trait's share of right clips where asked;
    `asked`: how often that was. `confusions`: what went wrong, the most frequent first."""

    score: float
    traits: dict[str, float]
    asked: dict[str, int]
    num_clips: int
    confusions: tuple[Confusion, ...]


def grade(readings: Sequence[Reading], questions: Sequence[Question]) -> Score:
    """Grade one reading a question."""
    asked: Counter[str] = Counter()
    right: Counter[str] = Counter()
    wrong: Counter[tuple[str, str, str | None]] = Counter()
    num_all_right = 0
    for reading, question in zip(readings, questions, strict=True):
        all_right = True
        for trait in question.asked:
            wanted, read = getattr(question.scene, trait), getattr(reading, trait)
            asked[trait] += 1
            right[trait] += read == wanted
            if read != wanted:
                wrong[trait, wanted, read] += 1
                all_right = False
        num_all_right += all_right
    names = [trait for trait in TRAITS if asked[trait]]
    ranked = sorted(wrong.items(), key=lambda item: (-item[1], str(item[0])))
    return Score(
        score=num_all_right / max(len(questions), 1),
        traits={trait: right[trait] / asked[trait] for trait in names},
        asked={trait: asked[trait] for trait in names},
        num_clips=len(questions),
        confusions=tuple(Confusion(*key, count) for key, count in ranked),
    )
