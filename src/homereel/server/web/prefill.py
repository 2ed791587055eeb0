"""The settings of a clip as the form of Create holds them: of one that was made here, or of a file that was dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from homereel.core.errors import InvalidRequest
from homereel.media.read_record import read_record
from homereel.server.parts import Parts
from homereel.server.video_object import plan_of
from homereel.workflows import Made, job_place

_SHOWN = (
    "prompt",
    "negative_prompt",
    "model",
    "width",
    "height",
    "num_frames",
    "fps",
    "steps",
    "guidance",
    "shift",
    "sampler",
    "seed",
)
_FILES = {
    "image": "a first picture",
    "last": "a last picture",
    "video": "footage",
    "refine": "another clip",
    "extend": "another clip",
    "loras": "LoRAs",
    "keyframes": "pictures",
    "references": "references",
}
NO_RECORD = (
    "this file carries no settings of homereel: sites and chat programs strip them. Take the file as it was downloaded "
    "here, or its sidecar .json"
)


@dataclass(frozen=True)
class Prefill:
    """What stands in the form, and what its files cannot bring back."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    source: str = ""


def prefill(here: Parts, *, job: str | None, upload: str | None) -> Prefill:
    """Raises UnknownJob, or InvalidRequest for a file without settings."""
    if job:
        found = here.store.get(job)
        made = Made.of_job(found.id, request=found.request, plan=plan_of(found))
        return _of(made, source="the clip that you came from")
    path = here.uploads.find(upload or "", field="upload").path
    record = read_record(path)
    if record is None:
        raise InvalidRequest(NO_RECORD, field="upload")
    return _of(Made.of_record(record, place=job_place("dropped"), name="dropped"), source="the file that you dropped")


def _of(made: Made, *, source: str) -> Prefill:
    told = made.request.model_dump(mode="json", exclude_none=True)
    fields = {name: told[name] for name in _SHOWN if told.get(name) not in (None, "")}
    missing = [text for name, text in _FILES.items() if told.get(name)]
    notes = (f"It was also made from {' and '.join(missing)}, which you add again here.",) if missing else ()
    return Prefill(fields, notes, source)
