"""Starts a locked process, and hands it bytes once it has proved that it is locked in: see `call_locked`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_ANSWER_BYTES = 64 * 1024**2
_TIME_LIMIT_SECONDS = 900.0  # its imports included, which take a minute on a busy machine
_MAX_TOLD_BYTES = 64 * 1024
_CODE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from homereel.weights.locked.child import main; main(sys.argv[2])"
)
_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_KEPT = ("LD_LIBRARY_PATH", "SYSTEMROOT")  # without which libraries may not be found; no secrets are in them


class NotLocked(Exception):
    """The process is not locked in, so it was given nothing. The text says what lacks."""


class CallFailed(Exception):
    """The process answered that the call failed, or answered nothing of use."""


@dataclass(frozen=True)
class Answer:
    """What the function returned, and the walls behind which it did. Bytes that are hostile may have made it up."""

    value: Any
    walls: tuple[str, ...]


def call_locked(target: str, data: bytes, *, trusted: bool = False) -> Answer:
    """Call `target` ("module:function", bytes to what JSON can hold) in a process that can reach nothing.

    With `trusted` it is also called where the process cannot be locked in; it is one of its own all the same, with
    empty surroundings. Raises NotLocked or CallFailed.
    """
    with _started(target) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        told = _parsed(process.stdout.readline(_MAX_TOLD_BYTES))
        walls, missing = _texts(told.get("walls")), [*_texts(told.get("missing")), *_texts(told.get("ways_out"))]
        if "walls" not in told:
            raise NotLocked("the process that should do it does not start")
        if missing and not trusted:
            lacking = "; ".join(_texts(told.get("missing"))) or f"it could still {', '.join(missing)}"
            raise NotLocked(lacking)
        with suppress(OSError):  # it may have ended before it read all
            process.stdin.write(data)
            process.stdin.close()
        raw = process.stdout.read(MAX_ANSWER_BYTES + 1)
    if len(raw) > MAX_ANSWER_BYTES:
        raise CallFailed("its answer is too long")
    answered = _parsed(raw)
    if "answer" not in answered:
        failure = answered.get("failure")
        raise CallFailed(failure if isinstance(failure, str) else "it took more memory or time than it may")
    return Answer(answered["answer"], () if missing else tuple(walls))


@contextmanager
def _started(target: str) -> Iterator[subprocess.Popen[bytes]]:
    """The process; it is gone when the context ends, or when its time is over."""
    surroundings = {name: os.environ[name] for name in _KEPT if name in os.environ}
    paths = json.dumps([os.path.abspath(path) for path in sys.path if path])  # noqa: PTH100  # "zip" entries, too
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", "-c", _CODE, paths, target],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**surroundings, **_THREADS},
            cwd=Path(os.sep).absolute(),
            start_new_session=True,  # Ctrl-C is for us, and we end it
        )
    except OSError as error:
        raise NotLocked(f"the process that should do it does not start: {error.strerror or error}") from None
    clock = threading.Timer(_TIME_LIMIT_SECONDS, process.kill)
    clock.daemon = True
    clock.start()
    try:
        yield process
    finally:
        clock.cancel()
        clock.join()
        process.kill()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            with suppress(OSError):
                stream.close()
        process.wait()


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _texts(value: Any) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []
