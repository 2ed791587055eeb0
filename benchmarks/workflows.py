"""Whether workflows keep what they promise, on the built-in model, judged from pixels alone.

Usage: python benchmarks/workflows.py [--clips 8] [--json benchmarks/results/workflows_pocket.json] [--sheet sheet.png]

For each of the exam's prompts a draft is made, refined and gone on from. Told are: the share of refined clips that show
the traits that their drafts show (as the exam reads them: colour, shape, motion, floor, light, camera), how many of the
asked traits are right before and after, whether the longer clip begins with the frames of the one before, and how far
apart the frames at the seam are, against the frames beside it: where motion goes on, the seam is no larger a step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homereel import media
from homereel.core.request import Request
from homereel.core.result import FiledClip
from homereel.engine.generate import generate_file
from homereel.engine.session import Session
from homereel.media.encode_png import write_png
from homereel.training.exam import make_questions
from homereel.training.exam.questions import Question
from homereel.training.exam.reader import TRAITS, Reading, read_clip
from homereel.workflows import Made, Step, drafts, extend, refine

BESIDE = 6
"""So many steps between frames on either side of the seam are what it is compared with."""

Frames = NDArray[np.uint8]


def measure(
    questions: Sequence[Question], *, model: str, folder: Path
) -> tuple[dict[str, Any], list[Frames], list[str]]:
    """The figures, and the clips with captions for a sheet."""
    rows: list[dict[str, Any]] = []
    shown: list[Frames] = []
    captions: list[str] = []
    with Session() as session:
        for number, question in enumerate(questions):
            request = Request(prompt=question.prompt, model=model, seed=question.seed)
            draft = _make(drafts(request, num=1)[0], folder / f"{number}-draft.mp4", session)
            finished = _make(refine(_made(draft[0])), folder / f"{number}-refined.mp4", session)
            longer = _make(extend(_made(finished[0])), folder / f"{number}-longer.mp4", session)
            row = _compare(question, draft=draft[1], refined=finished[1], longer=longer[1], fps=draft[0].fps)
            row["seconds"] = {"draft": draft[2], "refine": finished[2], "extend": longer[2]}
            rows.append(row)
            print(json.dumps(row), flush=True)
            for word, clip in (("draft", draft[1]), ("refined", finished[1]), ("longer", longer[1])):
                shown.append(clip)
                captions.append(f"{word}: {question.prompt}")
    return _summary(rows), shown, captions


def _make(step: Step, target: Path, session: Session) -> tuple[FiledClip, Frames, float]:
    """The clip, its frames as the file shows them, and the seconds on the processor that it took."""
    started = time.process_time()
    clip = generate_file(step.request, target, keep_latents=True, session=session)
    spent = time.process_time() - started
    return clip, media.read_clip(clip.path).frames, round(spent, 2)


def _made(clip: FiledClip) -> Made:
    return Made.of_record(clip.record, place=clip.path)


def _compare(question: Question, *, draft: Frames, refined: Frames, longer: Frames, fps: float) -> dict[str, Any]:
    read = {"draft": read_clip(draft, fps=fps), "refined": read_clip(refined, fps=fps)}
    length = len(refined)
    steps = [_psnr(longer[index], longer[index + 1]) for index in range(length - 1 - BESIDE, length + BESIDE)]
    return {
        "prompt": question.prompt,
        "read": {name: asdict(reading) for name, reading in read.items()},
        "kept": all(getattr(read["draft"], trait) == getattr(read["refined"], trait) for trait in TRAITS),
        "right": {name: _right(question, reading) for name, reading in read.items()},
        "refined_psnr": _psnr(draft, refined) if draft.shape == refined.shape else None,
        "prefix_psnr": _psnr(refined, longer[:length]),
        "seam_psnr": steps[BESIDE],
        "beside_psnr": [*steps[:BESIDE], *steps[BESIDE + 1 :]],
    }


def _right(question: Question, reading: Reading) -> bool:
    return all(getattr(reading, trait) == getattr(question.scene, trait) for trait in question.asked)


def _psnr(first: Frames, second: Frames) -> float:
    """99 stands for frames that are the same."""
    return round(min(99.0, float(media.psnr(first, second))), 2)


def _summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    beside = [value for row in rows for value in row["beside_psnr"]]
    return {
        "clips": len(rows),
        "refined_keeps_traits": _share(row["kept"] for row in rows),
        "drafts_right": _share(row["right"]["draft"] for row in rows),
        "refined_right": _share(row["right"]["refined"] for row in rows),
        "prefix_psnr": _mean(row["prefix_psnr"] for row in rows),
        "seam_psnr": _mean(row["seam_psnr"] for row in rows),
        "seam_psnr_lowest": min(row["seam_psnr"] for row in rows),
        "beside_psnr": _mean(beside),
        "cpu_seconds": {name: _mean(row["seconds"][name] for row in rows) for name in ("draft", "refine", "extend")},
        "rows": list(rows),
    }


def _share(values: Any) -> float:
    return round(statistics.mean(float(value) for value in values), 4)


def _mean(values: Any) -> float:
    return round(float(statistics.mean(values)), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found, clips, captions = measure(make_questions(options.clips), model=options.model, folder=Path(folder))
    text = json.dumps({"model": options.model, **found}, indent=1)
    if options.json is not None:
        options.json.write_text(text + "\n")
    if options.sheet is not None:
        write_png(media.contact_sheet(clips, captions=captions, frames_per_clip=10), path=options.sheet)
    print(json.dumps({name: value for name, value in found.items() if name != "rows"}, indent=1))


if __name__ == "__main__":
    main()
