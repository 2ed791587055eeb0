"""The settings of a clip as the form of Create holds them: of one that was made here, or of a file that was dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from homereel.core.errors import InvalidRequest
from homereel.media.read_record import read_record
from homereel.server.parts import Parts
from homereel.server.video_object import plan_of
from homereel.server.web.kept import ZONES, Kept, kept_of, kept_of_record
from homereel.workflows import Made, job_place
from homereel.workflows.film_record import film_parts

_SHOWN = (
    *("prompt", "negative_prompt", "model", "width", "height", "num_frames", "fps"),
    *("steps", "guidance", "shift", "sampler", "seed", "strength", "turbo"),
)
# Settings that the form has no field for: they are taken over, and can be taken out.
_EXTRA = {"passes": "passes", "sigmas": "times of the steps", "sigma_max": "noise to start from"}
NO_RECORD = (
    "this file carries no settings of homereel: sites and chat programs strip them. Take the file as it was downloaded "
    "here, or its sidecar .json"
)


@dataclass(frozen=True)
class Prefill:
    """What stands in the form; `notes` say what could not be brought back."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Kept, ...] = ()
    extra: tuple[tuple[str, str, str], ...] = ()  # name in the form, its value, what a person reads
    notes: tuple[str, ...] = ()
    source: str = ""

    def zone(self, name: str) -> Kept | None:
        """What lies in the place that the form has for this file."""
        found = [each for each in self.files if each.field == ("loras" if name == "lora" else name)]
        if len(found) != 1 or (name == "lora" and found[0].strength is None):
            return None
        return found[0]

    @property
    def others(self) -> list[Kept]:
        """Files that have no such place."""
        zones = [self.zone(name) for name in (*ZONES, "lora")]
        return [each for each in self.files if each not in zones]


def prefill(here: Parts, *, job: str | None, upload: str | None) -> Prefill:
    """Raises UnknownJob, or InvalidRequest for a file without settings."""
    if job:
        found = here.store.get(job)
        made = Made.of_job(found.id, request=found.request, plan=plan_of(found))
        return _of(made, *kept_of(found, here), source="the clip that you came from")
    path = here.uploads.find(upload or "", field="upload").path
    record = read_record(path)
    if record is None:
        raise InvalidRequest(NO_RECORD, field="upload")
    inner = record["homereel"]
    parts = film_parts(record)
    if parts is not None:
        raise InvalidRequest(
            f"this file is a film, joined of {len(parts)} clips, and has no settings of its own; drop one of the clips",
            field="upload",
        )
    if inner.get("private") or not (inner.get("request") or {}).get("prompt"):
        raise InvalidRequest(
            "the prompt and other private parts of this file's record were left out when it was written; nothing can "
            "be brought back",
            field="upload",
        )
    made = Made.of_record(record, place=job_place("dropped"), name="dropped")
    return _of(made, *kept_of_record(inner["request"], here), source="the file that you dropped")


def _of(made: Made, files: Sequence[Kept], gone: Sequence[str], *, source: str) -> Prefill:
    told = made.request.model_dump(mode="json", exclude_none=True)
    fields = {name: told[name] for name in _SHOWN if told.get(name) not in (None, "")}
    extra = [
        (name, _text(told[name]), f"{words}: {_text(told[name])}") for name, words in _EXTRA.items() if told.get(name)
    ]
    if told.get("sound") is False:
        extra.append(("sound", "false", "no sound"))
    notes: tuple[str, ...] = ()
    if gone:
        notes = (f"Not here any more, and left out: {', '.join(gone)}. Add it below if you have it.",)
    return Prefill(fields, tuple(files), tuple(extra), notes, source)


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
