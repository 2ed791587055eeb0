"""The exam: unseen prompts, and a reader that says from the pixels alone what a clip shows."""

from homereel.training.exam.exam import ClipSize, ExamResult, grade_drawn, run_exam
from homereel.training.exam.questions import EXAM_SEED, Question, make_questions
from homereel.training.exam.reader import TRAITS, Reading, read_clip
from homereel.training.exam.score import Confusion, Score, grade

__all__ = [
    "EXAM_SEED",
    "TRAITS",
    "ClipSize",
    "Confusion",
    "ExamResult",
    "Question",
    "Reading",
    "Score",
    "grade",
    "grade_drawn",
    "make_questions",
    "read_clip",
    "run_exam",
]
