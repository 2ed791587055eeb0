"""What the bodies of create, remix, edit and extend look like, for the OpenAPI page and whoever tests against it."""

from __future__ import annotations

from typing import Any

from homereel.core.request import MAX_PROMPT_CHARACTERS

_ID = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
_COMMON: dict[str, Any] = {
    "prompt": {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_PROMPT_CHARACTERS,
        "description": "What to see.",
        "examples": ["a red ball bounces on a green floor"],
    },
    "model": {
        "type": "string",
        "examples": ["pocket"],
        "description": "A model of /v1/models; by default the best one installed.",
    },
    "seconds": {"type": "string", "pattern": "^[1-9][0-9]{0,2}$", "description": "How long it lasts, such as 4."},
    "size": {
        "type": "string",
        "pattern": "^[1-9][0-9]{1,3}x[1-9][0-9]{1,3}$",
        "description": "Width and height in pixels, such as 832x480.",
    },
    "seed": {"type": "integer", "minimum": -1, "maximum": 4_294_967_295},
    "negative_prompt": {"type": "string"},
    "num_inference_steps": {"type": "integer", "minimum": 1, "maximum": 1_000, "description": "Also called steps."},
    "guidance_scale": {"type": "number", "minimum": 1, "maximum": 100, "description": "Also called guidance."},
    "num_frames": {"type": "integer", "minimum": 1},
    "fps": {"type": "number", "minimum": 1, "maximum": 240},
    "width": {"type": "integer", "minimum": 1},
    "height": {"type": "integer", "minimum": 1},
}
_REFERENCE = "A picture to begin with, or footage."


def _body(*, required: list[str], **more: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    """JSON and form; `more` are fields with their shape in each."""
    kinds = {}
    for index, kind in enumerate(("application/json", "multipart/form-data")):
        fields = {**_COMMON, **{name: shapes[index] for name, shapes in more.items()}}
        kinds[kind] = {"schema": {"type": "object", "properties": fields, "required": required}}
    return {"requestBody": {"required": True, "content": kinds}}


_AS_FILE = {"type": "string", "format": "binary", "description": _REFERENCE}
_AS_OBJECT = {
    "type": "object",
    "description": _REFERENCE,
    "properties": {"image_url": {"type": "string"}, "file_id": {"type": "string"}},
}
_FOOTAGE = (_ID, {"type": "string", "format": "binary"})

CREATE = _body(required=["prompt"], input_reference=(_AS_OBJECT, _AS_FILE))
REMIX = _body(required=[])
EDIT = _body(required=["prompt", "video"], video=_FOOTAGE)
EXTEND = _body(required=["prompt", "video", "seconds"], video=_FOOTAGE)
