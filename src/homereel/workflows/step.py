"""The seam between a workflow and whoever runs it: clips that were made go in, clips to be made come out.

A workflow is a pure function: it reads no file, makes no clip and knows no queue. The command line runs its steps one
after the other in process (`run.py`); a server queues each as a job that is linked to its parent. Where a step starts
from another clip, its request names that clip by a place: the path of a file, `job:ID` for the clip of a job, which the
worker finds when it comes to it, or `step:NAME` for the clip of an earlier step, which whoever runs the steps fills in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

from homereel.core.errors import InvalidRequest
from homereel.core.request import Request

Relation: TypeAlias = Literal["remix", "refine", "extension", "edit"]
Takes: TypeAlias = Literal["refine", "extend", "video", "image"]
"""The field of a request that names the clip to start from: its latents are refined or gone on from, it is footage to
go on from, or its last frame is the first of the next."""

_JOB, _STEP = "job:", "step:"
# What of a plan is decided for good when a clip is made anew, gone on from or varied.
_SETTLED = ("model", "width", "height", "num_frames", "fps", "steps", "guidance", "shift", "sampler", "seed")


@dataclass(frozen=True)
class Made:
    """A clip that is there, or will be when its job is done: how it was asked for, and where it lies.

    `name` is what its step was called, or a job's id; `request` has every setting that the plan decided.
    """

    name: str
    place: Path
    request: Request

    @classmethod
    def of_record(cls, record: Mapping[str, Any], *, place: Path, name: str | None = None) -> Self:
        """From the record that a file of homereel carries. Raises InvalidRequest if it tells too little."""
        inner = record.get("homereel") or {}
        asked, resolved = inner.get("request"), inner.get("resolved")
        if not isinstance(asked, Mapping) or not isinstance(resolved, Mapping) or "prompt" not in asked:
            raise InvalidRequest(
                f"{place.name} has a record without its prompt or settings; nothing can follow from it"
            )
        return cls.of_plan(asked, plan=resolved, place=place, name=name or place.stem)

    @classmethod
    def of_job(cls, job_id: str, *, request: Mapping[str, Any], plan: Mapping[str, Any] | None) -> Self:
        """From what the job store keeps; the job need not be done. Without a plan its request must be settled."""
        return cls.of_plan(request, plan=plan or {}, place=job_place(job_id), name=job_id)

    @classmethod
    def of_plan(cls, asked: Mapping[str, Any], *, plan: Mapping[str, Any], place: Path, name: str) -> Self:
        """From a request and the settings that its plan decided, both as JSON would have them."""
        decided = {key: plan[key] for key in _SETTLED if plan.get(key) is not None}
        if plan.get("guidance_2") not in (None, plan.get("guidance")):
            decided.pop("guidance", None)  # each expert has its own, which a request cannot say
        if plan.get("sigmas"):
            decided["sigmas"] = plan["sigmas"]
        wished = {key: value for key, value in asked.items() if value is not None}
        if "num_frames" in decided:
            wished.pop("seconds", None)
        return cls(name=name, place=place, request=Request.parse({**wished, **decided}))


@dataclass(frozen=True)
class Step:
    """One clip to be made.

    `parent` is the name of the clip that it comes from (a step of the same workflow, or a `Made`), and `takes` the
    field of the request in which that clip's place stands; None where only words and settings come from it. `notes`
    are sentences for the user.
    """

    name: str
    request: Request
    parent: str | None = None
    relation: Relation | None = None
    takes: Takes | None = None
    notes: tuple[str, ...] = ()

    @property
    def holds_parent(self) -> bool:
        """Whether the clip begins with all that its parent shows, so that it takes the parent's place in a film."""
        return self.takes in ("extend", "video")

    def made(self) -> Made:
        """This step's clip, to let another step of the workflow come from it."""
        return Made(name=self.name, place=step_place(self.name), request=self.request)

    def request_from(self, place: Path | None = None) -> Request:
        """The request; with the clip of an earlier step lying at `place`, once that is known."""
        if self.takes is None or step_of_place(getattr(self.request, self.takes)) is None:
            return self.request
        if place is None:
            raise InvalidRequest(f"{self.name} comes from {self.parent}, which was not made", field=self.takes)
        return self.request.replace(**{self.takes: place})

    def fields(self, place: Path | None = None) -> dict[str, Any]:
        """The same as the job store keeps it: plain JSON, without what is as it is by default."""
        return self.request_from(place).model_dump(mode="json", exclude_defaults=True)


def job_place(job_id: str) -> Path:
    """The clip of a job, whether it is done or not."""
    return Path(f"{_JOB}{job_id}")


def job_of_place(place: str | Path) -> str | None:
    """The id of the job whose clip this is; None for any other place."""
    return _after(_JOB, place)


def step_place(name: str) -> Path:
    """The clip of an earlier step of the same workflow."""
    return Path(f"{_STEP}{name}")


def step_of_place(place: str | Path) -> str | None:
    """The name of the step whose clip this is; None for any other place."""
    return _after(_STEP, place)


def _after(scheme: str, place: str | Path) -> str | None:
    text = str(place)
    return text.removeprefix(scheme) if text.startswith(scheme) else None
