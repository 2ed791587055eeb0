"""Files that a request refers to: where they lie, what stands for their content, and where in a request they may be.

Over HTTP no file is named by its path: a server that opened any path that it is told would read out its owner's disk.
A request holds an Attachment wherever core's Request wants a path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homereel.workflows.step import job_of_place

FILE_FIELDS = ("image", "last", "video", "mask", "refine", "extend")
LIST_FIELD = "references"
INNER_FIELDS = {"keyframes": "image", "loras": "path"}  # lists of objects with a file in each


@dataclass(frozen=True)
class Attachment:
    """A file within our folders. `key` stands for its content; `shown` is what messages call it."""

    path: Path
    key: str
    shown: str


def map_files(fields: Mapping[str, Any], change: Callable[[str, Any], Any]) -> dict[str, Any]:
    """The same request with `change(field, value)` in place of every file that it names.

    What is not built as a request should be is left alone: Request says what is wrong with it.
    """
    changed = dict(fields)
    for name in FILE_FIELDS:
        if changed.get(name) is not None:
            changed[name] = change(name, changed[name])
    if isinstance(changed.get(LIST_FIELD), list | tuple):
        changed[LIST_FIELD] = [change(LIST_FIELD, value) for value in changed[LIST_FIELD]]
    for name, inner in INNER_FIELDS.items():
        if isinstance(changed.get(name), list | tuple):
            changed[name] = [_inner(value, inner, change, field=name) for value in changed[name]]
    return changed


def as_attachment(name: str, value: Any) -> Any:
    """A file of ours that a step of a workflow names by its path, for `map_files`. A clip that is named by its job
    stays so: its worker finds it.
    """
    if not isinstance(value, str) or job_of_place(value) is not None:
        return value
    return Attachment(Path(value), value, name)


def attachments(fields: Mapping[str, Any]) -> Iterator[Attachment]:
    """All files of a request, in order."""
    found: list[Attachment] = []

    def collect(_field: str, value: Any) -> Any:
        if isinstance(value, Attachment):
            found.append(value)
        return value

    map_files(fields, collect)
    return iter(found)


def with_paths(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The request as core reads it, the files where they lie now."""
    return map_files(fields, lambda _field, value: str(value.path) if isinstance(value, Attachment) else value)


def with_keys(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The request with what stands for each file's content: equal for equal wishes."""
    return map_files(fields, lambda _field, value: value.key if isinstance(value, Attachment) else value)


def _inner(value: Any, inner: str, change: Callable[[str, Any], Any], *, field: str) -> Any:
    if not isinstance(value, Mapping) or value.get(inner) is None:
        return value
    return {**value, inner: change(field, value[inner])}
