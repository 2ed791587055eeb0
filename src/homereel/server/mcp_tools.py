"""What an agent can do: plan a film, have it made, ask how far it is, get it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from homereel.core.errors import HomereelError
from homereel.jobs.blobs import JobFolder
from homereel.jobs.records import Job
from homereel.jobs.store import JobStore
from homereel.server.attachments import Attachment
from homereel.server.intake import Intake, Wish
from homereel.server.video_object import notes_of, plan_of

_MAX_WAIT_SECONDS = 60.0
_LOOK_SECONDS = 0.2
_PLAN = ("model", "width", "height", "num_frames", "fps", "steps", "seed", "device", "peak_bytes", "seconds")


class Tools:
    """The methods are the tools: an agent reads their names, their arguments and their first words."""

    def __init__(self, store: JobStore, intake: Intake, *, data: Path) -> None:
        self._store, self._intake, self._data = store, intake, data

    def plan(
        self,
        prompt: str,
        *,
        seconds: float | None = None,
        width: int | None = None,
        height: int | None = None,
        model: str | None = None,
        image: str | None = None,
        negative_prompt: str = "",
        seed: int | None = None,
        steps: int | None = None,
    ) -> dict[str, Any]:
        """Say what would be made of a request, without making it: size, length, memory, and what would be changed.

        `image` is the absolute path of a picture to begin with. `model` is a model's id; without it, the best one here.
        """
        fields = _fields(
            prompt=prompt,
            seconds=seconds,
            width=width,
            height=height,
            model=model,
            image=image,
            negative_prompt=negative_prompt,
            seed=seed,
            steps=steps,
        )
        with _told():
            plan = self._intake.plan(fields)
        told = {name: getattr(plan, name) for name in _PLAN}
        return {**told, "clip_seconds": plan.clip_seconds, "notes": [*plan.adjustments, *plan.warnings]}

    def generate(
        self,
        prompt: str,
        *,
        seconds: float | None = None,
        width: int | None = None,
        height: int | None = None,
        model: str | None = None,
        image: str | None = None,
        negative_prompt: str = "",
        seed: int | None = None,
        steps: int | None = None,
    ) -> dict[str, Any]:
        """Have a film made. Returns its id at once; ask `status` for it, then `fetch`. Arguments as for `plan`."""
        fields = _fields(
            prompt=prompt,
            seconds=seconds,
            width=width,
            height=height,
            model=model,
            image=image,
            negative_prompt=negative_prompt,
            seed=seed,
            steps=steps,
        )
        with _told():
            return _shown(self._intake.accept(Wish(fields)))

    def status(self, id: str, *, wait_seconds: float = 0.0) -> dict[str, Any]:
        """How far a film is. With `wait_seconds` (60 at most) it waits that long for the film to be done."""
        until = time.monotonic() + min(wait_seconds, _MAX_WAIT_SECONDS)
        with _told():
            while True:
                job = self._store.get(id)
                if job.is_over or time.monotonic() >= until:
                    return _shown(job)
                time.sleep(_LOOK_SECONDS)

    def fetch(self, id: str) -> list[Any]:
        """The path of a finished film's mp4, and a sheet of its frames to look at."""
        from mcp.server.mcpserver import Image

        with _told():
            job = self._store.get(id)
            clip = self._intake.clip_of(id)
            folder = JobFolder(self._data, id)
            sheet = folder.spritesheet
            result = job.result or {}
            words = f"{clip.path} ({result.get('seconds', 0):.2f} s, {result.get('width')}x{result.get('height')})"
            return [words, Image(path=sheet)] if folder.is_inside(sheet) else [words]


@contextmanager
def _told() -> Iterator[None]:
    """Our own errors, as the SDK wants what an agent may read."""
    from mcp.server.mcpserver.exceptions import ToolError

    try:
        yield
    except HomereelError as error:
        raise ToolError(str(error)) from None


def _fields(*, image: str | None, **others: Any) -> dict[str, Any]:
    given = {**others, "image": None if image is None else _attached(image)}
    return {name: value for name, value in given.items() if value is not None}


def _attached(image: str) -> Attachment:
    path = Path(image).expanduser()
    return Attachment(path, hashlib.sha256(str(path).encode("utf-8", "replace")).hexdigest(), image)


def _shown(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "status": job.status,
        "progress": job.progress,
        "stage": job.stage,
        "remaining_seconds": job.remaining_seconds,
        "error": None if job.error is None else job.error.message,
        "plan": {name: plan_of(job).get(name) for name in _PLAN},
        "notes": notes_of(job),
    }
