"""Strip a record down to what may be shown to strangers: that a clip is generated, with which model and
settings.

It keeps a list of known harmless fields instead of removing known private ones, so that a field added later
is private until somebody decides otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_PLAIN_FIELDS = ("schema", "version", "created", "ai_generated", "frames_sha256", "sound_sha256")
_REQUEST_FIELDS = (
    "width",
    "height",
    "num_frames",
    "seconds",
    "fps",
    "steps",
    "guidance",
    "shift",
    "sampler",
    "sigma_max",
    "sigmas",
    "seed",
)
_RESOLVED_FIELDS = (
    *(
        "model",
        "family",
        "width",
        "height",
        "num_frames",
        "fps",
        "steps",
        "guidance",
        "shift",
        "sampler",
        "seed",
    ),
    *("guidance_2", "strength", "sound", "sigmas"),
    *("device", "dtype", "passes", "exactness"),
)
_SOFTWARE_FIELDS = ("torch", "diffusers", "transformers", "python", "numpy", "av")
_NAME = re.compile(r"[\w.+-]+(/[\w.+-]+)*")
_PASS = re.compile(r"[a-z0-9_]+(:[\w.+=-]+)+")  # with settings, none of which is a path
_SHA256 = re.compile(r"[0-9a-f]{64}")


def strip_private(record: Mapping[str, Any]) -> dict[str, Any]:
    """A new record without prompts, input pictures, paths, machine and anything unknown; marked with
    "private": true.

    The clip can no longer be made again from it, and a replay says so.
    """
    inner = record.get("homereel")
    inner = inner if isinstance(inner, Mapping) else {}
    kept: dict[str, Any] = {name: inner[name] for name in _PLAIN_FIELDS if name in inner and _is_harmless(inner[name])}
    for name, fields in (
        ("request", _REQUEST_FIELDS),
        ("resolved", _RESOLVED_FIELDS),
        ("software", _SOFTWARE_FIELDS),
    ):
        kept[name] = _harmless_fields(inner.get(name), fields)
    kept["model"] = _model(inner.get("model"))
    kept.setdefault("schema", 1)
    return {"homereel": {**kept, "ai_generated": bool(inner.get("ai_generated", True)), "private": True}}


def _model(model: object) -> dict[str, Any]:
    """The model's name and the hashes of its files; a model that was given as a path loses its name."""
    if not isinstance(model, Mapping):
        return {}
    kept: dict[str, Any] = _harmless_fields(model, ("id",))
    files = model.get("files")
    if isinstance(files, Mapping):
        kept["files"] = {
            name: digest
            for name, digest in files.items()
            if _is_harmless(name) and isinstance(digest, str) and _SHA256.fullmatch(digest)
        }
    return kept


def _harmless_fields(part: object, names: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(part, Mapping):
        return {}
    return {name: part[name] for name in names if name in part and _is_harmless(part[name])}


def _is_harmless(value: object) -> bool:
    """Numbers, and short names such as `unipc`, `org/model` or a date; never a text, an absolute path or
    one with `..`.
    """
    if isinstance(value, list | tuple):
        return all(_is_harmless(item) for item in value)
    if isinstance(value, str):
        is_date = re.fullmatch(r"[0-9T:.+Z -]{4,40}", value) is not None
        is_name = _NAME.fullmatch(value) is not None or _PASS.fullmatch(value) is not None
        return is_date or (len(value) <= 120 and is_name and ".." not in value)
    return value is None or isinstance(value, bool | int | float)
