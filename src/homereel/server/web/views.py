"""A job as the studio's templates show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from homereel.core.errors import UnknownJob
from homereel.jobs.records import Job, is_job_id
from homereel.jobs.store import JobStore
from homereel.server.video_object import notes_of, plan_of
from homereel.server.web.shelf import Shelf

_ABOUT_INPUTS = {
    "image": "a first picture",
    "last": "a last picture",
    "video": "footage",
    "refine": "another clip",
    "extend": "another clip",
}


@dataclass(frozen=True)
class Marks:
    """What the shelf says of all jobs, read once for a page."""

    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    picks: Mapping[str, str] = field(default_factory=dict)
    trash: frozenset[str] = frozenset()

    @classmethod
    def on(cls, shelf: Shelf) -> Marks:
        """As it is now."""
        return cls(shelf.tags(), shelf.picks(), shelf.trash())


@dataclass(frozen=True)
class Clip:
    """One clip, made or to be made."""

    job: Job
    plan: Mapping[str, Any]
    tags: tuple[str, ...] = ()
    pick: str | None = None
    is_trashed: bool = False

    @property
    def id(self) -> str:
        """The job's id."""
        return self.job.id

    @property
    def prompt(self) -> str:
        """What was asked for."""
        return str(self.job.request.get("prompt", ""))

    @property
    def is_done(self) -> bool:
        """Whether it can be played."""
        return self.job.status == "completed"

    @property
    def source(self) -> str:
        """Where the clip is; another address after another try."""
        mark = str((self.job.result or {}).get("sha256", ""))[:12]
        return f"/v1/videos/{self.id}/content?of={mark}"

    @property
    def poster(self) -> str:
        """A picture of it."""
        return f"/v1/videos/{self.id}/content?variant=thumbnail"

    @property
    def size(self) -> str:
        """In pixels."""
        return f"{self.plan.get('width', '?')}×{self.plan.get('height', '?')}"

    @property
    def width(self) -> int:
        """In pixels."""
        return int(self.plan.get("width") or 16)

    @property
    def height(self) -> int:
        """In pixels."""
        return int(self.plan.get("height") or 9)

    @property
    def length(self) -> float:
        """In seconds."""
        return float(self.plan.get("num_frames") or 0) / float(self.plan.get("fps") or 1)

    @property
    def fps(self) -> float:
        """Frames a second."""
        return float(self.plan.get("fps") or 1)

    @property
    def seed(self) -> int | None:
        """What its noise came from."""
        seed: int | None = self.plan.get("seed", self.job.request.get("seed"))
        return seed

    @property
    def notes(self) -> list[str]:
        """What was changed of the wish."""
        return notes_of(self.job)

    @property
    def loras(self) -> list[str]:
        """Names with their strengths."""
        return [str(each) for each in self.plan.get("loras") or ()]

    @property
    def made_from(self) -> list[str]:
        """What it started from, besides words."""
        return [text for name, text in _ABOUT_INPUTS.items() if self.job.request.get(name)]

    @property
    def took_seconds(self) -> float | None:
        """From its start to its end."""
        job = self.job
        return None if job.completed_at is None or job.started_at is None else job.completed_at - job.started_at

    @property
    def file_name(self) -> str:
        """What a download is called: its first words and its seed."""
        return f"{file_words(self.prompt) or 'clip'}-{self.seed}.mp4"


def clip_of(job: Job, marks: Marks) -> Clip:
    """The job with what the shelf says of it."""
    return Clip(
        job=job,
        plan=plan_of(job),
        tags=marks.tags.get(job.id, ()),
        pick=marks.picks.get(job.id),
        is_trashed=job.id in marks.trash,
    )


def clips_of(ids: Iterable[str], store: JobStore, marks: Marks) -> list[Clip]:
    """The clips of these jobs; one that was deleted meanwhile is left out."""
    found = []
    for job_id in ids:
        try:
            found.append(clip_of(store.get(job_id), marks))
        except UnknownJob:
            continue
    return found


def checked_id(text: str) -> str:
    """A job's id. Raises UnknownJob for anything else."""
    if not is_job_id(text):
        raise UnknownJob("there is no such clip; it may have been deleted. The library shows those that are there")
    return text


def file_words(text: str) -> str:
    """The first words of a text as a part of a file's name: plain letters and digits, hyphens between."""
    return "-".join("".join(each if each.isascii() and each.isalnum() else " " for each in text).split()[:6]).lower()


def file_names(request: Mapping[str, Any]) -> dict[str, Any]:
    """A request without the folders of this machine."""
    return {name: Path(value).name if name in _ABOUT_INPUTS else value for name, value in request.items()}
