"""The process of one side: each line of JSON on stdin is a wish, and is answered by one on stdout.

Whatever libraries print goes to stderr, so that the answers stay whole.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any, Protocol

from homereel.core.errors import HomereelError


class Side(Protocol):
    """Makes clips its own way: DiffusersSide, HomereelSide."""

    def make(self, prompt: str, seed: int, *, target: Path | None, keep_frames: bool) -> tuple[Any, Any]: ...

    def close(self) -> None: ...


def main() -> None:
    """The first line says which side this is; each further one is a clip. The end of stdin ends it."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    side: Side | None = None
    answer: dict[str, Any]
    for line in sys.stdin:
        try:
            told = json.loads(line)
            if side is None:
                side, answer = open_side(told), {"ready": True}
            else:
                answer = _clip(side, told)
        except Exception as error:  # noqa: BLE001  # all that goes wrong is told to the parent, which raises it
            traceback.print_exc()
            known = type(error).__name__ if isinstance(error, HomereelError) else ""
            answer = {"error": known, "message": str(error) if known else f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)
    if side is not None:
        side.close()


def open_side(told: dict[str, Any]) -> Side:
    """ "baseline" or "turbo", each with what it needs to know."""
    num_threads = told.get("num_threads")
    if told["side"] == "baseline":
        from homereel.engine.bench.baseline import DiffusersSide

        return DiffusersSide({**told["told"], "num_threads": num_threads or told["told"]["num_threads"]})
    from homereel.engine.bench.turbo import HomereelSide

    return HomereelSide(told["told"], num_threads=num_threads)


def _clip(side: Side, told: dict[str, Any]) -> dict[str, Any]:
    target, frames_file = (None if told[name] is None else Path(told[name]) for name in ("target", "frames"))
    figures, frames = side.make(told["prompt"], told["seed"], target=target, keep_frames=frames_file is not None)
    if frames_file is not None:
        import numpy as np

        np.save(frames_file, frames)
    answer: dict[str, Any] = figures.as_dict()
    return answer
