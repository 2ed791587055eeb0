"""Turn a clip's record into the texts that its file carries: our JSON, A1111-style `parameters`, a comment
for people.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from homereel.core.errors import MediaError
from homereel.media.limits import MAX_RECORD_BYTES

RECORD_TAG = "homereel"
PARAMETERS_TAG = "parameters"
COMMENT_TAG = "comment"

_SAMPLER_NAMES = {"unipc": "UniPC", "euler": "Euler", "rcm": "rCM", "rcm-ode": "rCM ODE"}
_SETTINGS = (  # name in the text, key of the record's "resolved"
    ("Steps", "steps"),
    ("Sampler", "sampler"),
    ("CFG scale", "guidance"),
    ("Seed", "seed"),
    ("Size", "size"),
    ("Frames", "num_frames"),
    ("FPS", "fps"),
    ("Shift", "shift"),
    ("Model", "model"),
    ("Version", "version"),
)


@dataclass(frozen=True)
class Tags:
    """The three texts that go into a file, whether it is to be marked as generated, and the prompt, which stands below
    a contact sheet.
    """

    record: str
    parameters: str
    comment: str
    ai_generated: bool
    prompt: str

    def as_dict(self) -> dict[str, str]:
        return {RECORD_TAG: self.record, PARAMETERS_TAG: self.parameters, COMMENT_TAG: self.comment}


LateTags = Callable[[], Tags]
"""The texts that only the last frame decides: to be asked for once, when it is there."""


def known_tags(tags: Tags | LateTags | None) -> Tags | None:
    """To be called when all frames are there."""
    return tags() if callable(tags) else tags


def make_tags(record: Mapping[str, Any]) -> Tags:
    """The texts for one record. Raises MediaError when its JSON is over the size that is read back."""
    text = record_json(record)
    if len(text) > MAX_RECORD_BYTES:
        raise MediaError(f"the record has {len(text):,} bytes; at most {MAX_RECORD_BYTES:,} fit; shorten the prompt")
    return Tags(
        record=text,
        parameters=parameters_text(record),
        comment=comment_text(record),
        ai_generated=_is_generated(record),
        prompt=str(_part(record, "request").get("prompt") or ""),
    )


def record_json(record: Mapping[str, Any], *, indent: int | None = None) -> str:
    """Plain ASCII JSON with sorted keys, so that the same record is the same bytes in every format."""
    separators = (",", ":") if indent is None else (",", ": ")
    return json.dumps(record, sort_keys=True, allow_nan=False, separators=separators, indent=indent)


def parameters_text(record: Mapping[str, Any]) -> str:
    """The text that picture sites and galleries read: prompt, negative prompt, and one line of settings."""
    request, resolved = _part(record, "request"), _part(record, "resolved")
    lines = [_one_line(request.get("prompt"))]
    negative = _one_line(request.get("negative_prompt"))
    if negative:
        lines.append(f"Negative prompt: {negative}")
    values = dict(resolved)
    values["sampler"] = _SAMPLER_NAMES.get(str(resolved.get("sampler")), resolved.get("sampler"))
    values["model"] = resolved.get("model") or _part(record, "model").get("id")
    values["version"] = program_name(record)
    if resolved.get("width") and resolved.get("height"):
        values["size"] = f"{resolved['width']}x{resolved['height']}"
    settings = [f"{name}: {_value(values[key])}" for name, key in _SETTINGS if values.get(key) is not None]
    return "\n".join(line for line in [*lines, ", ".join(settings)] if line)


def comment_text(record: Mapping[str, Any]) -> str:
    """One sentence for people: whether it is generated, and with what."""
    model = _part(record, "model").get("id") or _part(record, "resolved").get("model")
    kind = "AI-generated video" if _is_generated(record) else "Video"
    made_with = f"{kind}, made with {program_name(record)}"
    return _one_line(f"{made_with} and the model {model}" if model else made_with)


def program_name(record: Mapping[str, Any]) -> str:
    return _one_line(f"homereel {_inner(record).get('version') or ''}")


def _is_generated(record: Mapping[str, Any]) -> bool:
    return _inner(record).get("ai_generated", True) is not False


def _inner(record: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = record.get("homereel")
    return inner if isinstance(inner, Mapping) else {}


def _part(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = _inner(record).get(name)
    return part if isinstance(part, Mapping) else {}


def _value(value: object) -> str:
    """4.0 as 4; a text that holds the separators in quotes, as other readers of this line expect."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = _one_line(value)
    return json.dumps(text, ensure_ascii=False) if any(c in text for c in ',:"') else text


def _one_line(value: object) -> str:
    """Text without line breaks, control characters and what UTF-8 cannot hold."""
    if value is None:
        return ""
    text = str(value).encode("utf-8", "replace").decode("utf-8")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
