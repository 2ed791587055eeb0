"""The parent's hand on the process of one side: starts it, asks for clips, and ends it."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from homereel.core import errors
from homereel.core.errors import GenerationFailed, HomereelError, Stopped
from homereel.core.events import ShouldStop
from homereel.engine.bench.figures import Figures

_CODE = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from homereel.engine.bench.child import main; main()"
_LOOK_SECONDS = 0.2  # between two looks whether to stop
_MOST_TOLD = 400


class SideProcess:
    """One side in a process of its own. Times are taken in there; how often we look here changes nothing."""

    def __init__(
        self, name: str, process: subprocess.Popen[str], log: IO[bytes], *, started: float, should_stop: ShouldStop
    ) -> None:
        self.name = name
        self.started = started
        self._process, self._log, self._should_stop = process, log, should_stop
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name=f"bench {name}", daemon=True)
        self._reader.start()

    def clip(self, prompt: str, seed: int, *, target: Path | None = None, frames: Path | None = None) -> Figures:
        """Have one clip made: an mp4 at `target`, its raw frames (THWC, an .npy file) at `frames`.

        Raises Stopped, GenerationFailed if the process ends, and what the side raises.
        """
        paths = {key: None if path is None else str(path) for key, path in (("target", target), ("frames", frames))}
        return Figures.parse(self.ask({"prompt": prompt, "seed": seed, **paths}))

    def ask(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """Tell it something, and wait for its answer."""
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended: its silence says so
            self._process.stdin.write(json.dumps(told) + "\n")
            self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._line() or self._ended())
        if "error" in answer:
            raise _error(answer, side=self.name)
        return answer

    def close(self) -> None:
        """End it, at once."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            assert stream is not None
            with suppress(OSError):
                stream.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _line(self) -> str:
        while True:
            try:
                return self._lines.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                if self._should_stop():
                    raise Stopped("stopped; nothing was measured") from None

    def _ended(self) -> str:
        code = self._process.wait()
        self._lines.put("")  # whoever asks again hears the same
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        why = "it was killed, mostly for want of memory; a smaller --size may do" if code == -9 else ""
        told = why or (lines[-1][-_MOST_TOLD:] if lines else f"exit code {code}")
        raise GenerationFailed(f"the process of the {self.name} side ended without an answer: {told}")


@contextmanager
def start_side(
    name: str, told: Mapping[str, Any], *, num_threads: int | None = None, should_stop: ShouldStop | None = None
) -> Iterator[SideProcess]:
    """Start "baseline" or "turbo", and have it open its model; it is gone when the context ends."""
    started = time.perf_counter()
    paths = json.dumps([os.path.abspath(path) for path in sys.path if path])  # noqa: PTH100  # "zip" entries, too
    log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
    process = subprocess.Popen(
        [sys.executable, "-c", _CODE, paths],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        encoding="utf-8",
        start_new_session=True,  # Ctrl-C is for us, and we end it
    )
    never: Callable[[], bool] = lambda: False  # noqa: E731
    side = SideProcess(name, process, log, started=started, should_stop=should_stop or never)
    try:
        side.ask({"side": name, "told": dict(told), "num_threads": num_threads})
        yield side
    finally:
        side.close()


def _error(answer: Mapping[str, Any], *, side: str) -> HomereelError:
    """What was raised in there, as the same kind."""
    kind = getattr(errors, answer["error"], None) if answer["error"] else None
    if isinstance(kind, type) and issubclass(kind, HomereelError):
        return kind(answer["message"])
    return GenerationFailed(f"the {side} side failed: {' '.join(answer['message'].split())[:_MOST_TOLD]}")
