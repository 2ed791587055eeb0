"""Lines for people and JSON for programs: results go to stdout, everything else to stderr."""

from __future__ import annotations

import io
import json
import sys
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any


def show_json(data: Mapping[str, Any]) -> None:
    """One JSON object on stdout, in plain ASCII so that any terminal and pipe can carry it."""
    print(json.dumps(data, indent=2, allow_nan=False))


def show_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Names and values on stdout, the values below one another."""
    kept = [(name, one_line(value)) for name, value in rows if value]
    width = max((len(name) for name, _ in kept), default=0)
    for name, value in kept:
        print(f"{name:<{width}}  {value}")


def tell(message: str) -> None:
    """One line on stderr with the program's name before it."""
    print(f"homereel: {one_line(message)}", file=sys.stderr, flush=True)


def one_line(text: str, *, limit: int = 4_000) -> str:
    """The text on one line, without characters that could steer a terminal."""
    plain = "".join(" " if unicodedata.category(character) in ("Cc", "Zl", "Zp") else character for character in text)
    line = " ".join(plain.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def bytes_text(num_bytes: float) -> str:
    """Such as "731 MB"; "unknown" for 0."""
    if num_bytes <= 0:
        return "unknown"
    if num_bytes < 1e6:
        return f"{num_bytes / 1e3:.0f} kB"
    return f"{num_bytes / 1e6:.0f} MB" if num_bytes < 1e9 else f"{num_bytes / 1e9:.1f} GB"


def seconds_text(seconds: float) -> str:
    """Such as "9.4 s", "2 min 5 s" or "1 h 12 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def tolerate_any_text() -> None:
    """A terminal that lacks a letter shows something in its place instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
