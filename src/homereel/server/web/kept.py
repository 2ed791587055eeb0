"""What a clip was made from besides words, as the form of Create takes it up again: its own job's pictures, footage and
LoRAs, and the clip that it came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from homereel.core.errors import InvalidRequest, UnknownJob
from homereel.jobs.blobs import CLIP, INPUTS
from homereel.jobs.records import Job, is_job_id
from homereel.server.job_files import JobFile, files_of, find_file, is_here, job_and_field
from homereel.server.parts import Parts
from homereel.workflows.step import job_of_place, job_place

WORDS = {
    "image": "first picture",
    "last": "last picture",
    "video": "footage",
    "mask": "mask",
    "refine": "clip that it refines",
    "extend": "clip that it goes on from",
    "references": "reference",
    "keyframes": "picture in between",
    "loras": "LoRA",
}
_PICTURES = frozenset({"image", "last", "mask", "references", "keyframes"})
_CLIPS = frozenset({"refine", "extend"})
ZONES = ("image", "last", "video")
"""Fields that have a place of their own in the form; so has a single LoRA."""


@dataclass(frozen=True)
class Kept:
    """One file in the form: `sent` is what the form sends of it, `label` what a person reads, `picture` where it is
    seen. `strength` is that of a LoRA which needs nothing beside it.
    """

    field: str
    name: str
    label: str
    sent: tuple[tuple[str, str], ...]
    picture: str = ""
    strength: float | None = None


def kept_of(job: Job, here: Parts) -> tuple[list[Kept], list[str]]:
    """What is still here, and of what is gone a few words each."""
    kept: list[Kept] = []
    gone: list[str] = []
    for file in files_of(job):
        if _is_still_here(file, here):
            kept.append(_kept(file, extend_from=job.request.get("extend_from")))
        else:
            gone.append(_label(file))
    return kept, gone


def kept_of_record(request: Mapping[str, Any], here: Parts) -> tuple[list[Kept], list[str]]:
    """The same for the request in a file's record, which anybody may have written: what it names is taken up only where
    a job of this server was made from just that.
    """
    kept: list[Kept] = []
    gone: list[str] = []
    named = Job(id="", status="completed", request=request)
    for file in files_of(named):
        own = _own(file, here)
        if own is not None and _is_still_here(own, here):
            kept.append(_kept(own, extend_from=request.get("extend_from")))
        else:
            gone.append(_label(file) + _called(file.value))
    return kept, gone


def read_kept(values: Sequence[str], here: Parts) -> dict[str, Any]:
    """Fields of a request over HTTP, from what the form sends of files that were taken up again."""
    fields: dict[str, Any] = {}
    for value in values:
        of_job = job_and_field(value)
        if of_job is None:
            raise InvalidRequest(f"kept: {value[:60]!r} names no file of a clip", field="kept")
        job_id, field, index = of_job
        file = find_file(here.store.get(job_id), field, index)
        if index is None:
            fields[field] = file.name
        else:
            fields.setdefault(field, []).append(file.with_name())
    return fields


def _own(file: JobFile, here: Parts) -> JobFile | None:
    """What the record means, if it is of a job of this server: what that was made from, or its clip."""
    path = Path(file.value)
    owner = path.parent.parent.name if path.parent.name == INPUTS else path.parent.name
    if not is_job_id(owner):  # which what names a job outright is not: a record tells paths
        return None
    if path.name == CLIP and file.field in _CLIPS:
        return replace(file, job=owner, value=str(job_place(owner)))
    try:
        job = here.store.get(owner)
    except UnknownJob:
        return None
    return next((each for each in files_of(job) if (each.field, each.value) == (file.field, file.value)), None)


def _is_still_here(file: JobFile, here: Parts) -> bool:
    parent = job_of_place(file.value)
    if parent is None:
        return is_here(file, here.settings.data)
    try:
        return here.store.get(parent).status == "completed"
    except UnknownJob:
        return False


def _kept(file: JobFile, *, extend_from: Any) -> Kept:
    parent = job_of_place(file.value)
    sent = [("kept", file.name) if parent is None else (file.field, parent)]
    if file.field == "extend" and extend_from:
        sent.append(("extend_from", str(extend_from)))
    picture = f"/studio/inputs/{file.name}" if file.field in _PICTURES and parent is None else ""
    is_plain = file.field == "loras" and file.whole.get("expert") is None
    strength = float(file.whole.get("strength", 1)) if is_plain else None
    return Kept(file.field, file.name, _label(file), tuple(sent), picture, strength)


def _label(file: JobFile) -> str:
    return " ".join(_words_of(file))


def _words_of(file: JobFile) -> Iterator[str]:
    yield WORDS[file.field]
    if file.index is not None:
        yield str(file.index + 1)
    if file.field == "loras":
        yield f"(strength {float(file.whole.get('strength', 1)):g})"
    if file.field == "keyframes":
        moment = file.whole.get("seconds")
        yield f"(at {moment:g} s)" if moment is not None else f"(frame {file.whole.get('frame')})"


def _called(path: str) -> str:
    """The file's name, where a person has given it."""
    name = Path(path.replace("\\", "/")).name
    is_ours = len(Path(name).stem) == 32 and all(each in "0123456789abcdef" for each in Path(name).stem)
    return "" if is_ours or not name or ":" in name else f" {name[:60]}"
