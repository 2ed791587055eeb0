"""From a wish to a queued job: planned first, so that what cannot be carried out is refused at once; then its files
are copied into the job's own folder, where nobody takes them away; then it is on the disk, and acknowledged.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homereel.core.errors import InvalidRequest, UnknownJob, WrongState
from homereel.core.request import Request
from homereel.jobs.blobs import JobFolder
from homereel.jobs.parent_clip import LAST_FRAME
from homereel.jobs.records import Job, Relation, new_job_id
from homereel.jobs.store import JobStore
from homereel.server.attachments import Attachment, map_files, with_keys
from homereel.server.planner import Planner
from homereel.workflows.film import write_last_frame
from homereel.workflows.step import job_of_place

if TYPE_CHECKING:
    from homereel.core.plan import Plan

MAX_MOVE_PIXELS = 32  # half of the widest grid of a model


@dataclass(frozen=True)
class Wish:
    """What a client wants: fields of core's Request, files as Attachments, and how it hangs together with others."""

    fields: Mapping[str, Any]
    parent: str | None = None
    relation: Relation | None = None
    priority: int = 0
    notes: tuple[str, ...] = ()  # told to the client with the job
    keeps_size: bool = False  # refused, where the model's sizes are far from the one that is asked for
    extra: Mapping[str, Any] = field(default_factory=dict)


class Intake:
    """Its methods block; call them from a thread."""

    def __init__(self, store: JobStore, *, data: Path, planner: Planner) -> None:
        self._store, self._data, self._planner = store, data, planner

    def plan(self, fields: Mapping[str, Any]) -> Plan:
        """What would be made of it. Raises what `Planner.plan` raises, and WrongState for footage or a picture from a
        job that is not done."""
        return self._planner.plan(self._with_clips(fields))

    def accept(self, wish: Wish, *, key: str | None = None) -> Job:
        """The queued job, or the one that the idempotency key stands for.

        Raises what `Planner.plan` and `JobStore.submit` raise; then nothing is left behind.
        """
        wish = replace(wish, fields=self._with_clips(wish.fields))
        plan = self._planner.plan(wish.fields)
        job_id = new_job_id()
        folder = JobFolder(self._data, job_id)
        try:
            # What the plan decided stays so, whatever is installed by the time it is run: one wish, one clip.
            settled = {**map_files(wish.fields, lambda _name, value: _copied(value, folder)), **_decided(plan)}
            request = Request.parse(settled)
            if wish.keeps_size:
                _check_size(request, plan)
            job = self._store.submit(
                request.model_dump(mode="json", exclude_defaults=True),
                model=plan.model,
                priority=wish.priority,
                idempotency_key=key,
                same=None if key is None else _meaning(wish),
                parent=wish.parent,
                relation=wish.relation,
                extra={**wish.extra, "plan": plan.as_dict(), "notes": list(wish.notes)},
                job_id=job_id,
            )
        except BaseException:
            shutil.rmtree(folder.path, ignore_errors=True)
            raise
        if job.id != job_id:
            shutil.rmtree(folder.path, ignore_errors=True)
        return job

    def clip_of(self, job_id: str) -> Attachment:
        """A finished job's clip, to make another from. Raises UnknownJob, WrongState."""
        job = self._store.get(job_id)
        path = JobFolder(self._data, job_id).clip
        if job.status != "completed" or job.result is None or path.is_symlink() or not path.is_file():
            raise WrongState(f"{job_id} has no clip: it is {job.status}; wait until it is completed")
        return Attachment(path, str(job.result.get("sha256") or job_id), job_id)

    def _with_clips(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Footage, or a last frame, of a job that is named. A plan must see these; latents it need not, so that a clip
        that is refined or gone on from may still be in work."""
        found: dict[str, Attachment] = {}
        for name in ("video", "image"):
            value = fields.get(name)
            job_id = job_of_place(value) if isinstance(value, str) else None
            if job_id is not None:
                found[name] = self.clip_of(job_id) if name == "video" else self._last_frame_of(job_id)
        return {**fields, **found}

    def _last_frame_of(self, job_id: str) -> Attachment:
        clip = self.clip_of(job_id)
        picture = write_last_frame(clip.path, clip.path.with_name(LAST_FRAME))
        return Attachment(picture, f"{clip.key}/{LAST_FRAME}", job_id)

    def request_of(self, job: Job) -> dict[str, Any]:
        """A job's request, its files as Attachments. Raises InvalidRequest if one of them is gone."""

        def attach(name: str, value: Any) -> Any:
            if not isinstance(value, str):
                return value
            parent = job_of_place(value)
            if parent is not None:
                self._check_known(parent, child=job.id, field=name)
                return value
            if not Path(value).is_file():
                raise InvalidRequest(
                    f"{name}: what {job.id} was made from is not here any more; use its settings, and add it again",
                    field=name,
                )
            return Attachment(Path(value), f"{job.id}/{name}", name)

        return map_files(job.request, attach)

    def _check_known(self, job_id: str, *, child: str, field: str) -> None:
        try:
            self._store.get(job_id)
        except UnknownJob:
            raise InvalidRequest(
                f"{field}: the clip that {child} comes from was deleted; use its settings, and leave that out",
                field=field,
            ) from None


def _decided(plan: Plan) -> dict[str, Any]:
    return {"model": plan.model, "seed": plan.seed}


def _check_size(request: Request, plan: Plan) -> None:
    """Raises InvalidRequest if a side would be moved by more than to the next line of a model's grid."""
    made = {"width": plan.width, "height": plan.height}
    asked = {"width": request.width, "height": request.height}
    if any(side is not None and abs(side - made[name]) > MAX_MOVE_PIXELS for name, side in asked.items()):
        width, height = (asked[name] or made[name] for name in made)
        raise InvalidRequest(
            f"size: {plan.model} makes no clip of {width}x{height}; the nearest that it makes is "
            f"{plan.width}x{plan.height}",
            field="size",
        )


def _copied(value: Any, folder: JobFolder) -> Any:
    if not isinstance(value, Attachment):
        return value
    with value.path.open("rb") as file:
        return str(folder.put_input(file, value.path.suffix))


def _meaning(wish: Wish) -> str:
    """Equal for equal wishes: files by their content, and nothing of what was decided here."""
    told = {"fields": with_keys(wish.fields), "parent": wish.parent, "relation": wish.relation}
    return json.dumps(told, sort_keys=True, default=str)
