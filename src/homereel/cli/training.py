"""What the training commands share: a check before hours of work, and how a stop is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from homereel.core.errors import HomereelError, Stopped


def check_plots() -> None:
    """Raises HomereelError where losses could not be drawn, or the first stage would fail at its end."""
    if find_spec("matplotlib") is None:
        raise HomereelError(
            "training draws its losses with matplotlib, which is missing; pip install 'homereel[train]'"
        )


@contextmanager
def resumable() -> Iterator[None]:
    """Ctrl-C ends the work inside in a sentence."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped("stopped; the same command goes on from the last checkpoint") from None
