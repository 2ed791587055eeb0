"""What all passes have in common: settings that can be written down and read again, and harmless answers.

A setting is a field made with `setting`, which knows how to read it from text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from homereel.core.errors import InvalidRequest
from homereel.core.protocols import Component


def setting(default: Any, *, read: Callable[[str], Any], write: Callable[[Any], str] = str) -> Any:
    """A field of a technique; `read` raises ValueError for text that is none."""
    return field(default=default, metadata={"read": read, "write": write})


@dataclass(frozen=True)
class Technique:
    """The part of `Pass` that is alike for most."""

    exactness: ClassVar[str] = "exact"
    remembers: ClassVar[bool] = False
    undo_holds_weights: ClassVar[bool] = False

    @property
    def name(self) -> str:
        raise NotImplementedError

    @property
    def spec(self) -> str:
        """The first setting always, the others where they are not the usual."""
        written = [self.name]
        for index, each in enumerate(settings(self)):
            value = getattr(self, each.name)
            if value is not None and (index == 0 or value != each.default):
                text = each.metadata["write"](value)
                written.append(text if index == 0 else f"{each.name}={text}")
        return ":".join(written)

    @property
    def files(self) -> tuple[Path, ...]:
        return ()

    def start(self, component: Component) -> None:
        """Nothing is remembered."""


def settings(technique: Technique | type[Technique]) -> list[Any]:
    """The fields that can be set by text, in order."""
    return [each for each in fields(technique) if "read" in each.metadata]


def refuse_setting(name: str, message: str) -> InvalidRequest:
    """The error for a setting that no technique can have."""
    return InvalidRequest(f"passes: {name}: {message}", field="passes")


def number(value: float) -> str:
    """A number as short as it can be written."""
    return f"{value:g}"


def yes_or_no(text: str) -> bool:
    """A setting that is on or off."""
    if text not in ("yes", "no"):
        raise ValueError("say yes or no")
    return text == "yes"
