"""What a joined film tells of itself: the fingerprint of every clip in it, and how each of them was made.

A film cannot be made again in one go, since no model made it as one; its clips can, each from its own recipe.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import homereel
from homereel.media.record_text import record_json
from homereel.workflows.film_pieces import Piece

_MAX_RECIPES_BYTES = 2**19  # half of what fits into a file: the rest is for fingerprints
_RESOLVED = ("model", "steps", "guidance", "shift", "sampler", "seed")


def film_record(pieces: Sequence[Piece], *, title: str, fps: float) -> dict[str, Any]:
    """The record as JSON would have it. `parents` are the fingerprints of the clips' frames, where they tell them;
    a recipe that there is no room for is left out, a fingerprint never.
    """
    records = [_inner(piece.look.record) for piece in pieces]
    first = pieces[0].look
    parts = _parts(pieces, records)
    return {
        "homereel": {
            "schema": 1,
            "version": homereel.__version__,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "request": {},
            "resolved": {
                "width": first.width,
                "height": first.height,
                "num_frames": sum(piece.num_frames for piece in pieces),
                "fps": fps,
            },
            "film": {"title": title, "parts": parts, "models": _models(records)},
            "parents": [part["frames_sha256"] for part in parts if "frames_sha256" in part],
            "ai_generated": any(record.get("ai_generated", True) for record in records if record),
        }
    }


def film_parts(record: Mapping[str, Any] | None) -> list[Mapping[str, Any]] | None:
    """The clips of which the file with this record was joined; None if it is no film."""
    film = _inner(record).get("film")
    return list(film.get("parts") or ()) if isinstance(film, Mapping) else None


def _parts(pieces: Sequence[Piece], records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    parts, room = [], _MAX_RECIPES_BYTES
    for piece, record in zip(pieces, records, strict=True):
        recipe = _recipe(record)
        room -= len(record_json(recipe))
        parts.append({**_fingerprints(piece, record), **({"recipe": recipe} if recipe and room >= 0 else {})})
    return parts


def _fingerprints(piece: Piece, record: Mapping[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"num_frames": piece.num_frames, "skip_frames": piece.skip_frames}
    if piece.look.kind != "frames":  # a folder of pictures has no bytes of its own
        with piece.path.open("rb") as file:
            told["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return {**told, **{name: record[name] for name in ("frames_sha256", "sound_sha256") if record.get(name)}}


def _recipe(record: Mapping[str, Any]) -> dict[str, Any]:
    """Its words, and the settings that its plan decided; what it was made from besides words stays in its own file."""
    if record.get("private"):
        return {}
    asked, resolved = record.get("request") or {}, record.get("resolved") or {}
    words = {name: asked[name] for name in ("prompt", "negative_prompt") if asked.get(name)}
    return {**words, **{name: resolved[name] for name in _RESOLVED if resolved.get(name) is not None}}


def _models(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The models by their names, each with the hashes of its files."""
    models = [record.get("model") or {} for record in records if not record.get("private")]
    return {str(model["id"]): model.get("files") or {} for model in models if model.get("id")}


def _inner(record: Mapping[str, Any] | None) -> Mapping[str, Any]:
    inner = (record or {}).get("homereel")
    return inner if isinstance(inner, Mapping) else {}
