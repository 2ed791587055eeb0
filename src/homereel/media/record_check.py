"""Read a record out of text that anybody may have written: JSON only, bounded, checked, or None."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable
from typing import Any

from homereel.media.limits import MAX_RECORD_BYTES, MAX_RECORD_DEPTH

_SHA256 = re.compile(r"[0-9a-f]{64}")


def parse_record(text: str | bytes | None) -> dict[str, Any] | None:
    """The record in `text`, its strings freed of control characters; None for anything that is not a sound
    record.
    """
    if text is None or len(text) > MAX_RECORD_BYTES:
        return None
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        value = json.loads(decoded, parse_constant=_refuse, parse_float=_finite, parse_int=_sized)
    except (ValueError, RecursionError):
        return None
    return _clean(value) if _is_shallow(value, levels=MAX_RECORD_DEPTH) and _is_record(value) else None


def _is_shallow(value: object, *, levels: int) -> bool:
    """Whether objects and lists nest at most `levels` deep; looks no deeper than that."""
    if not isinstance(value, dict | list):
        return True
    children = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(child, levels=levels - 1) for child in children)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is out of range")
    return value


def _sized(text: str) -> int:
    if len(text) > 20:
        raise ValueError("a number of more than 20 digits")
    return int(text)


def _is_record(value: object) -> bool:
    inner = value.get("homereel") if isinstance(value, dict) else None
    if not isinstance(inner, dict):
        return False
    schema = inner.get("schema")
    if isinstance(schema, bool) or not isinstance(schema, int) or not 1 <= schema <= 1000:
        return False
    return all(check(inner[name]) for name, check in _SHAPES.items() if inner.get(name) is not None)


def _is_model(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("id", ""), str):
        return False
    files = value.get("files", {})
    return isinstance(files, dict) and all(isinstance(h, str) and _SHA256.fullmatch(h) for h in files.values())


def _is_request(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    texts = (
        *("prompt", "negative_prompt", "model", "sampler", "turbo"),
        *("image", "last", "video", "mask", "refine", "extend"),
    )
    return (
        all(isinstance(value[name], str) for name in texts if value.get(name) is not None)
        and _numbers_are(value)
        and isinstance(value.get("sound", True), bool)
        and all(isinstance(text, str) for name in ("references", "passes") for text in _items(value, name))
        and all(_is_use(use, file="image") for use in _items(value, "keyframes"))
        and all(_is_use(use, file="path") for use in _items(value, "loras"))
    )


def _items(value: dict[str, Any], name: str) -> list[Any]:
    """The list of this name; for what is no list, one thing that passes no check."""
    items = value.get(name) or []
    return items if isinstance(items, list) else [None]


def _is_use(value: object, *, file: str) -> bool:
    """A picture with its time, or a LoRA with its strength."""
    return isinstance(value, dict) and isinstance(value.get(file), str) and _numbers_are(value)


def _numbers_are(value: dict[str, Any]) -> bool:
    """The fields that are numbers in a request and a plan hold numbers, if they are there."""
    names = (
        *("width", "height", "num_frames", "seconds", "fps", "frame", "extend_from"),
        *("steps", "guidance", "guidance_2", "shift", "seed", "strength", "sigma_max"),
    )
    held = [*(value[name] for name in names if value.get(name) is not None), *_items(value, "sigmas")]
    return all(isinstance(number, int | float) and not isinstance(number, bool) for number in held)


def _is_resolved(value: object) -> bool:
    return (
        isinstance(value, dict)
        and _numbers_are(value)
        and all(isinstance(text, str) for text in _items(value, "passes"))
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def _is_film(value: object) -> bool:
    """Clips that were joined, each with its fingerprints."""
    hashes = ("sha256", "frames_sha256", "sound_sha256")
    return (
        isinstance(value, dict)
        and isinstance(value.get("title", ""), str)
        and isinstance(value.get("models", {}), dict)
        and all(
            isinstance(part, dict)
            and all(_is_hash(part[name]) for name in hashes if name in part)
            and _is_request(part.get("recipe", {}))
            and _numbers_are(part)
            for part in _items(value, "parts")
        )
    )


_SHAPES: dict[str, Callable[[object], bool]] = {
    "version": _is_text,
    "created": _is_text,
    "request": _is_request,
    "resolved": _is_resolved,
    "model": _is_model,
    "software": _is_object,
    "machine": _is_object,
    "frames_sha256": _is_hash,
    "sound_sha256": _is_hash,
    "film": _is_film,
    "timing": _is_object,
    "peak_bytes": lambda value: isinstance(value, int) and value >= 0,
    "parents": lambda value: isinstance(value, list),
    "ai_generated": lambda value: isinstance(value, bool),
}


def _clean(value: Any) -> Any:
    """Strings without control and direction marks, which could fool a terminal or a page that shows them."""
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return "".join(map(_harmless, value)) if isinstance(value, str) else value


def _harmless(character: str) -> str:
    if character in "\n\t" or character == "\u200d":  # the last one joins emoji
        return character
    return " " if unicodedata.category(character) in ("Cc", "Cf", "Cs") else character
