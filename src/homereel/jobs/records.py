"""What the store keeps of a job, and what it hands out: plain frozen records, without a database behind them.

    queued → running → completed | failed | cancelled
       ↑↓       ↓ ↑ (a worker died, or gave it back)
      paused ←──┘

`wanted` is what the user asked of a running job; its worker looks at it each time it renews its lease.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

Status: TypeAlias = Literal["queued", "running", "paused", "completed", "failed", "cancelled"]
Wanted: TypeAlias = Literal["run", "pause", "cancel"]
Relation: TypeAlias = Literal["remix", "refine", "extension", "edit"]
Returned: TypeAlias = Literal["queued", "paused", "cancelled"]
EventKind: TypeAlias = Literal[
    "submitted", "started", "progress", "wanted", "requeued", "paused", "resumed", "moved",
    "completed", "failed", "cancelled", "retried", "deleted",
]  # fmt: skip

STATUSES: tuple[Status, ...] = get_args(Status)
TERMINAL: frozenset[Status] = frozenset({"completed", "failed", "cancelled"})
_ID = re.compile(r"video_[0-9a-f]{32}")


@dataclass(frozen=True)
class JobError:
    """Why a job failed: a word for programs (such as "out_of_memory"), a line for people."""

    code: str
    message: str


@dataclass(frozen=True)
class Job:
    """One job as it stood when it was read."""

    id: str
    status: Status
    request: Mapping[str, Any]  # what core's Request.parse takes
    model: str = ""  # its affinity: jobs of one model are run together; "" if unknown
    plan: Mapping[str, Any] | None = None
    stage: str | None = None
    steps_done: int = 0
    num_steps: int = 0
    remaining_seconds: float | None = None
    priority: int = 0  # higher first
    place: float = 0.0  # the order within a priority
    attempts: int = 0  # how often it has failed or lost its worker since it last got further
    max_attempts: int = 3
    wanted: Wanted = "run"
    error: JobError | None = None
    result: Mapping[str, Any] | None = None
    parent: str | None = None
    relation: Relation | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)  # what a door wants to keep; the store does not look at it
    created_at: float = 0.0  # unix seconds, these three: to be shown, never to be reckoned with
    started_at: float | None = None
    completed_at: float | None = None

    @property
    def progress(self) -> int:
        """0 to 100; 100 only when it is completed."""
        if self.status == "completed":
            return 100
        return min(99, max(0, 100 * self.steps_done // self.num_steps)) if self.num_steps else 0

    @property
    def is_over(self) -> bool:
        """Whether it is completed, failed or cancelled."""
        return self.status in TERMINAL

    def as_dict(self) -> dict[str, Any]:
        """The job as JSON would have it."""
        return {**asdict(self), "progress": self.progress}


@dataclass(frozen=True)
class Lease:
    """The right to work on a job. `token` grows with every claim: an older one is worth nothing."""

    job: Job
    worker: str
    token: int


class Held(NamedTuple):
    """A lease as a watcher sees it: `beat` grows while the worker lives."""

    job_id: str
    worker: str
    token: int
    beat: int


@dataclass(frozen=True)
class Event:
    """Something that happened to a job. Numbers only grow; a job that is gone may still have events."""

    number: int
    job_id: str
    kind: EventKind
    at: float
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Page:
    """A part of a list; the last id of it is where the next part begins."""

    jobs: tuple[Job, ...]
    has_more: bool


def new_job_id() -> str:
    """A fresh id; ids sort by the time of their making as long as the clock is right."""
    return f"video_{int(time.time() * 1000) & 0xFFFFFFFFFFFF:012x}{secrets.token_hex(10)}"


def is_job_id(text: str) -> bool:
    """Whether a text has the shape of an id. Nothing else ever becomes a part of a path or a query."""
    return _ID.fullmatch(text) is not None
