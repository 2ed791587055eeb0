"""Files that a job was made from, to be used for another: named by the job and the field, as in video_.../image,
video_.../loras.0 or video_.../references.1, and never by where they lie.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homereel.core.errors import InvalidRequest
from homereel.jobs.blobs import JobFolder
from homereel.jobs.records import Job
from homereel.server.attachments import FILE_FIELDS, INNER_FIELDS, LIST_FIELD, Attachment
from homereel.workflows.step import job_of_place

_NAME = re.compile(r"(?P<job>video_[0-9a-f]{32})/(?P<field>[a-z]+)(\.(?P<index>[0-9]{1,2}))?")


@dataclass(frozen=True)
class JobFile:
    """One of them. `whole` is what the request holds there: a path, or an object with a path in it."""

    job: str
    field: str
    index: int | None
    value: str
    whole: Any

    @property
    def name(self) -> str:
        """What stands for it in a request over HTTP."""
        return f"{self.job}/{self.field}" + ("" if self.index is None else f".{self.index}")

    def with_name(self) -> Any:
        """What the request holds, with the name in the place of the path."""
        inner = INNER_FIELDS.get(self.field)
        return self.name if inner is None else {**self.whole, inner: self.name}


def files_of(job: Job) -> Iterator[JobFile]:
    """All files of a job's request, in order. Where it names the clip of another job, that is the value."""
    for name in FILE_FIELDS:
        value = job.request.get(name)
        if isinstance(value, str):
            yield JobFile(job.id, name, None, value, value)
    for index, value in enumerate(job.request.get(LIST_FIELD) or ()):
        yield JobFile(job.id, LIST_FIELD, index, str(value), value)
    for name, inner in INNER_FIELDS.items():
        for index, whole in enumerate(job.request.get(name) or ()):
            if isinstance(whole, Mapping):
                yield JobFile(job.id, name, index, str(whole.get(inner)), whole)


def job_and_field(name: str) -> tuple[str, str, int | None] | None:
    """The parts of such a name; None for anything else."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    return found["job"], found["field"], None if found["index"] is None else int(found["index"])


def find_file(job: Job, field: str, index: int | None) -> JobFile:
    """Raises InvalidRequest if the job was not made from such a file."""
    for each in files_of(job):
        if (each.field, each.index) == (field, index):
            return each
    raise InvalidRequest(f"{job.id} was not made from any {field[:20]}; leave it out, or upload one", field=field)


def is_here(file: JobFile, data: Path) -> bool:
    """Whether it lies in its job's own folder, where it was put when the job came."""
    return JobFolder(data, file.job).is_inside(Path(file.value))


def attached(file: JobFile, data: Path) -> Attachment | str:
    """The file, or the place of the job whose clip it is. Raises InvalidRequest if it is no longer here."""
    if job_of_place(file.value) is not None:
        return file.value
    if not is_here(file, data):
        raise InvalidRequest(
            f"{file.field}: what {file.job} was made from is not here any more; add it again", field=file.field
        )
    return Attachment(Path(file.value), file.name, file.field)
