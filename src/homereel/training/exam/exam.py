"""Runs the exam: has every prompt made into a clip, reads the clip, and grades.

The ceiling is what the same reader says of clips that the world itself drew."""

from __future__ import annotations

import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from queue import SimpleQueue
from typing import Any, Protocol

import torch
from torch import Tensor

from homereel.training.exam.clip import Frames
from homereel.training.exam.questions import EXAM_SEED, Question, make_questions
from homereel.training.exam.reader import Reading, read_clip
from homereel.training.exam.score import Score, grade
from homereel.training.world import draw

EXAM_VERSION = 1
"""Raised whenever questions or reader change so that scores no longer compare."""

MakeClip = Callable[[str, int], Frames]
"""(prompt, seed) → frames: THWC uint8 (numpy) or TCHW (torch)."""
OnClip = Callable[[int, int], None]
"""Told (clips done, clips in all) after every clip that was made."""


@dataclass(frozen=True)
class ClipSize:
    """Size of the clips in an exam."""

    height: int = 96
    width: int = 96
    num_frames: int = 33
    fps: float = 16.0


@dataclass(frozen=True)
class ExamResult:
    """A model's score, the ceiling (the same questions on clips that the world drew), and how it came about."""

    score: Score
    ceiling: Score
    size: ClipSize
    seed: int
    make_seconds: float
    read_seconds: float
    questions: tuple[Question, ...]
    readings: tuple[Reading, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data, shares rounded to four places."""
        return {
            "score": round(self.score.score, 4),
            "traits": _rounded(self.score.traits),
            "ceiling": round(self.ceiling.score, 4),
            "ceiling_traits": _rounded(self.ceiling.traits),
            "clips": self.score.num_clips,
            "asked": self.score.asked,
            "confusions": [asdict(confusion) for confusion in self.score.confusions],
            "size": asdict(self.size),
            "seed": self.seed,
            "exam_version": EXAM_VERSION,
            "make_seconds": round(self.make_seconds, 2),
            "read_seconds": round(self.read_seconds, 2),
        }


def run_exam(
    make_clip: MakeClip | Sequence[MakeClip],
    *,
    num_clips: int = 256,
    seed: int = EXAM_SEED,
    fps: float = 16.0,
    on_progress: OnClip | None = None,
    workers: int = 1,
) -> ExamResult:
    """Examine whatever makes clips from prompts. The same model, seed and number of clips give the same result.

    Several makers, such as processes with a thread each, answer side by side, whoever is free the next question.
    `fps` is that of the clips. With `workers` above 1 so many further processes read the clips meanwhile; the main
    module must then be importable, as for every spawned process.
    """
    questions = make_questions(num_clips, seed=seed)
    pending: list[_Pending] = []
    make_seconds = 0.0
    started = time.monotonic()
    makers = make_clip if isinstance(make_clip, Sequence) else (make_clip,)
    with _readers(workers) as submit, closing(_made(makers, questions)) as made:
        for index in range(num_clips):
            before = time.monotonic()
            frames = next(made)
            make_seconds += time.monotonic() - before
            if index == 0:
                size = _size_of(frames, fps=fps)
            pending.append(submit(_read_made, frames, fps))
            if on_progress is not None:
                on_progress(index + 1, num_clips)
        drawn = [submit(_read_drawn, question, size) for question in questions]
        readings = [future.result() for future in pending]
        ceiling = grade([future.result() for future in drawn], questions)
    return ExamResult(
        score=grade(readings, questions),
        ceiling=ceiling,
        size=size,
        seed=seed,
        make_seconds=make_seconds,
        read_seconds=time.monotonic() - started - make_seconds,
        questions=tuple(questions),
        readings=tuple(readings),
    )


def grade_drawn(
    questions: Sequence[Question],
    *,
    size: ClipSize | None = None,
    through: Callable[[Tensor], Tensor] | None = None,
) -> Score:
    """Grade clips drawn by the world: the reader's ceiling. `through` takes TCHW uint8 frames and gives them back as an
    autoencoder, a codec or any other damage leaves them."""
    with one_thread():
        return grade([_read_drawn(question, size or ClipSize(), through) for question in questions], questions)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread inside: clips are small, and more threads only get in each other's way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _made(makers: Sequence[MakeClip], questions: Sequence[Question]) -> Generator[Frames]:
    """The clips, in the order of the questions; several makers are a clip each ahead."""
    if len(makers) == 1:
        yield from (makers[0](question.prompt, question.seed) for question in questions)
        return
    free: SimpleQueue[MakeClip] = SimpleQueue()
    for each in makers:
        free.put(each)

    def make(question: Question) -> Frames:
        maker = free.get()
        try:
            return maker(question.prompt, question.seed)
        finally:
            free.put(maker)

    ahead: deque[Future[Frames]] = deque()
    pool = ThreadPoolExecutor(len(makers), thread_name_prefix="exam maker")
    try:
        for question in questions:
            ahead.append(pool.submit(make, question))
            if len(ahead) > len(makers):
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class _Pending(Protocol):
    def result(self) -> Reading: ...


@contextmanager
def _readers(workers: int) -> Iterator[Callable[..., _Pending]]:
    """Something to hand readings to: this process, one at a time, or a pool of others."""
    if workers <= 1:
        yield _read_now
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield pool.submit


def _read_now(read: Callable[..., Reading], *arguments: Any) -> _Pending:
    future: Future[Reading] = Future()
    with one_thread():
        future.set_result(read(*arguments))
    return future


def _read_made(frames: Frames, fps: float) -> Reading:
    return read_clip(frames, fps=fps)


def _read_drawn(question: Question, size: ClipSize, through: Callable[[Tensor], Tensor] | None = None) -> Reading:
    drawing = draw(question.scene, height=size.height, width=size.width, num_frames=size.num_frames, fps=size.fps)
    return read_clip(through(drawing.frames_TCHW) if through else drawing.frames_TCHW, fps=size.fps)


def _size_of(frames: Frames, *, fps: float) -> ClipSize:
    if isinstance(frames, Tensor):
        num_frames, _, height, width = frames.shape
    else:
        num_frames, height, width, _ = frames.shape
    return ClipSize(height=height, width=width, num_frames=num_frames, fps=fps)


def _rounded(shares: dict[str, float]) -> dict[str, float]:
    return {name: round(share, 4) for name, share in shares.items()}
