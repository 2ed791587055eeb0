"""Locked processes that are not: their module takes a wall away before it is put up."""

from __future__ import annotations

from typing import Any

from homereel.weights.locked import child as program

child: Any = program


def answer(data: bytes) -> str:
    return "answered " + data.decode()


def warm_up() -> None:
    """No wall stands, and the process says so."""
    child.close_in = lambda: ((), ("a test says so",))
