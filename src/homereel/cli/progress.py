"""Draws how far a clip is, on stderr: a bar in a terminal, a few plain lines elsewhere, or nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from homereel.cli.output import one_line, seconds_text, tell

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from homereel.core.events import Progress

_STOPPING = "stopping after this step (Ctrl-C again: at once)"
_LABELS = {
    "load": "loading",
    "text": "reading the prompt",
    "denoise": "denoising",
    "decode": "decoding",
    "write": "writing",
}


class Display(Protocol):
    """Shows one command's progress."""

    def begin(self, title: str) -> None:
        """A clip begins; the title tells it from others ("2/4"), or is empty."""
        ...

    def update(self, progress: Progress) -> None:
        """What the engine reports of one clip."""
        ...

    def count(self, label: str, step: int, num_steps: int, *, left_seconds: float | None) -> None:
        """So many steps of something are done."""
        ...

    def tell(self, message: str) -> None:
        """A line on stderr that stays, such as a warning."""
        ...

    def show(self, line: str) -> None:
        """A line on stdout: a result."""
        ...

    def stopping(self) -> None:
        """A stop was asked for; called from a signal handler."""
        ...


def silent_with(*, as_json: bool) -> bool:
    """For work of many minutes: JSON on stdout does not keep a terminal from a bar, but a log from lines."""
    return as_json and not sys.stderr.isatty()


@contextmanager
def show_progress(*, silent: bool) -> Iterator[Display]:
    """The display that suits stderr."""
    if silent:
        yield _Silent()
    elif sys.stderr.isatty():
        with _bar() as bar:
            yield _Bar(bar)
    else:
        yield _Lines()


class _Silent:
    def begin(self, title: str) -> None:
        pass

    def update(self, progress: Progress) -> None:
        self.count(_LABELS[progress.stage], progress.step, progress.num_steps, left_seconds=progress.remaining_seconds)

    def count(self, label: str, step: int, num_steps: int, *, left_seconds: float | None) -> None:
        pass

    def tell(self, message: str) -> None:
        tell(message)

    def show(self, line: str) -> None:
        print(line, flush=True)

    def stopping(self) -> None:
        pass


class _Lines(_Silent):
    """A line a stage, and one for each quarter of what has many steps: fit for a log."""

    def __init__(self) -> None:
        self._title = ""
        self._shown: set[tuple[str, int]] = set()

    def begin(self, title: str) -> None:
        self._title = title
        self._shown.clear()

    def count(self, label: str, step: int, num_steps: int, *, left_seconds: float | None) -> None:
        quarter = 4 * step // num_steps if num_steps > 1 else 0
        if quarter == 4 or (label, quarter) in self._shown:
            return
        self._shown.add((label, quarter))
        words = (self._title, label, _steps(step, num_steps), _left(left_seconds))
        self.tell(" ".join(filter(None, words)))

    def stopping(self) -> None:
        os.write(2, f"homereel: {_STOPPING}\n".encode())


class _Bar(_Silent):
    """One line that is drawn over and over, and gone at the end."""

    def __init__(self, bar: RichProgress) -> None:
        self._bar = bar
        self._title = ""
        self._is_stopping = False
        self._task = bar.add_task("starting", total=None, left="", steps="")

    def begin(self, title: str) -> None:
        self._title = f"{title} " if title else ""
        self._bar.start()
        self._bar.reset(self._task, total=None, description=f"{self._title}starting", left="", steps="")

    def count(self, label: str, step: int, num_steps: int, *, left_seconds: float | None) -> None:
        self._bar.update(
            self._task,
            description=_STOPPING if self._is_stopping else self._title + label,
            total=num_steps if num_steps > 1 else None,
            completed=step,
            steps=_steps(step, num_steps),
            left=_left(left_seconds),
        )

    def tell(self, message: str) -> None:
        from rich.text import Text

        self._bar.console.print(Text(f"homereel: {one_line(message)}"), soft_wrap=True)

    def show(self, line: str) -> None:
        self._bar.stop()  # until the next clip begins: stdout may be the same terminal
        print(line, flush=True)

    def stopping(self) -> None:
        self._is_stopping = True
        self._bar.console.show_cursor(True)  # a second Ctrl-C would leave the terminal without one
        self._bar.tasks[0].description = _STOPPING


@contextmanager
def _bar() -> Iterator[RichProgress]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[steps]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, refresh_per_second=4, redirect_stdout=False) as bar:
        yield bar


def _steps(step: int, num_steps: int) -> str:
    return f"{step}/{num_steps}" if num_steps > 1 else ""


def _left(seconds: float | None) -> str:
    return f"about {seconds_text(seconds)} left" if seconds and seconds >= 1 else ""
