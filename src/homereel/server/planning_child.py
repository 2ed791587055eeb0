"""`python -m homereel.server.planning_child`: makes plans for `planning_process`, who started it.

It reads one request at a time from standard input and answers on standard output, all pickled: ("plan", Plan),
("error", HomereelError) or ("bug", traceback). None instead of a request means: be ready, and answer ("ready", None).
"""

from __future__ import annotations

import argparse
import os
import pickle
import queue
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import Any, BinaryIO

from homereel.core.errors import HomereelError
from homereel.core.request import Request
from homereel.server.plans_here import Plans, PlansHere

IDLE_SECONDS = 900.0
"""When nobody asked for so long it ends, and its memory is for whoever makes clips."""


def answer_questions(plans: Plans, *, idle_seconds: float = IDLE_SECONDS) -> None:
    """The child's life. What libraries print goes to standard error."""
    questions = os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    heard: queue.Queue[Request | None] = queue.Queue()
    threading.Thread(target=_listen, args=(questions, heard), name="hears the server", daemon=True).start()
    while True:
        try:
            question = heard.get(timeout=idle_seconds)
        except queue.Empty:
            return
        answers.write(pickle.dumps(_answer(plans, question)))
        answers.flush()


def _listen(questions: BinaryIO, heard: queue.Queue[Request | None]) -> None:
    """In a thread of its own, so that the server's end is noticed in the middle of a plan, too."""
    try:
        while True:
            heard.put(pickle.load(questions))
    except (OSError, EOFError, pickle.UnpicklingError):
        os._exit(0)


def _answer(plans: Plans, question: Request | None) -> tuple[str, Any]:
    try:
        if question is not None:
            return "plan", plans.plan(question)
        plans.ready()
        return "ready", None
    except HomereelError as error:
        return "error", error
    except Exception:  # noqa: BLE001  the server answers it as a bug of its own
        return "bug", traceback.format_exc()


def main(arguments: Sequence[str] | None = None) -> None:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m homereel.server.planning_child")
    parser.add_argument("--idle-seconds", type=float, default=IDLE_SECONDS)
    answer_questions(PlansHere(), idle_seconds=parser.parse_args(arguments).idle_seconds)


if __name__ == "__main__":
    main()
