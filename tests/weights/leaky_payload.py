"""A locked process with a hole of which nobody told it."""

from __future__ import annotations

from typing import Any

from homereel.weights.locked import child as program

child: Any = program


def answer(data: bytes) -> str:
    return "answered " + data.decode()


def warm_up() -> None:
    """All walls are said to stand, and none does."""
    child.close_in = lambda: (("a wall",), ())
