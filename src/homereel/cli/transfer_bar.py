"""Draws how far a download is, on stderr: a bar with rate and time left, or a line a tenth, or nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from homereel.cli.output import bytes_text, one_line, seconds_text, tell

if TYPE_CHECKING:
    from homereel.weights.transfer import Transfer


class TransferView:
    """What one `models pull` shows."""

    def __init__(self, show: Callable[[Transfer], None], tell_line: Callable[[str], None]) -> None:
        self.update = show
        self.tell = tell_line


@contextmanager
def show_transfer(*, silent: bool) -> Iterator[TransferView]:
    """The display that suits stderr."""
    if silent:
        yield TransferView(lambda _: None, tell)
    elif sys.stderr.isatty():
        with _bar() as view:
            yield view
    else:
        yield TransferView(_Tenths().update, tell)


class _Tenths:
    """A line each tenth of the way: fit for a log."""

    def __init__(self) -> None:
        self._shown = -1

    def update(self, transfer: Transfer) -> None:
        tenth = 10 * transfer.done_bytes // max(1, transfer.total_bytes)
        if transfer.stage == "fetch" and tenth > self._shown:
            self._shown = tenth
            tell(f"{_amount(transfer)}{_pace(transfer)}")


@contextmanager
def _bar() -> Iterator[TransferView]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
    from rich.text import Text

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[state]}", markup=False),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, refresh_per_second=4, redirect_stdout=False) as bar:
        task = bar.add_task("asking the hub", total=None, state="")

        def update(transfer: Transfer) -> None:
            bar.update(
                task,
                description="checking" if transfer.stage == "check" else "fetching",
                total=transfer.total_bytes,
                completed=transfer.done_bytes,
                state=f"{_amount(transfer)}{_pace(transfer)}",
            )

        def tell_line(message: str) -> None:
            console.print(Text(f"homereel: {one_line(message)}"), soft_wrap=True)

        yield TransferView(update, tell_line)


def _amount(transfer: Transfer) -> str:
    return f"{bytes_text(max(1, transfer.done_bytes))} of {bytes_text(transfer.total_bytes)}"


def _pace(transfer: Transfer) -> str:
    rate, left = transfer.bytes_per_second, transfer.remaining_seconds
    pace = f", {bytes_text(rate)}/s" if rate else ""
    return pace + (f", about {seconds_text(left)} left" if left is not None and left >= 1 else "")
