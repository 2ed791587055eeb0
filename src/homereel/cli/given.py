"""Options that hold two things in one word: a picture and its time, a LoRA and its strength."""

from __future__ import annotations

import re
from collections.abc import Iterable

from homereel.core.errors import InvalidRequest

_TIME = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<unit>s?)")
_STRENGTH = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)")


def read_keyframes(words: Iterable[str]) -> list[dict[str, object]]:
    """2.0s=mid.png is a time in seconds, 48=mid.png the number of a frame. Raises InvalidRequest."""
    return [_keyframe(word) for word in words]


def read_loras(words: Iterable[str]) -> list[dict[str, object]]:
    """style.safetensors, or style.safetensors:0.8 for its strength."""
    return [_lora(word) for word in words]


def _keyframe(word: str) -> dict[str, object]:
    time, equals, file = word.partition("=")
    match = _TIME.fullmatch(time.strip())
    if match is None or not equals or not file.strip():
        raise InvalidRequest(
            f"--keyframe: {word!r} is no picture with its time; write 2.0s=mid.png, or 48=mid.png for a frame",
            field="keyframes",
        )
    number, in_seconds = match["number"], bool(match["unit"])
    if not in_seconds and "." in number:
        raise InvalidRequest(
            f"--keyframe: {number} is no frame's number; write {number}s={file} for a time in seconds",
            field="keyframes",
        )
    return {"image": file, **({"seconds": float(number)} if in_seconds else {"frame": int(number)})}


def _lora(word: str) -> dict[str, object]:
    file, colon, strength = word.rpartition(":")
    if colon and file and _STRENGTH.fullmatch(strength.strip()):
        return {"path": file, "strength": float(strength)}
    return {"path": word}
