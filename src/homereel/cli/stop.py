"""Ctrl-C: the first asks the run to stop after its present step, the second ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSwitch:
    """A `should_stop` that the keyboard (or a polite kill) turns on, while it is entered as a context."""

    def __init__(self, *, on_asked: Callable[[], None]) -> None:
        self.asked = False
        self._on_asked = on_asked
        self._is_writing = False
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        return self.asked

    @contextmanager
    def writing(self) -> Iterator[None]:
        """While a file is being written, even a second signal leaves time to remove what is half-written."""
        self._is_writing = True
        try:
            yield
        finally:
            self._is_writing = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        if not self._is_writing:  # Python would only see a second one when the present computation is over
            for each in self._before:
                signal.signal(each, signal.SIG_DFL)
        self._on_asked()
