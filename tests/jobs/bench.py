"""A store, a workplace and the tiny model: what the tests of workers stand on."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from homereel.core.events import Progress
from homereel.core.request import Request
from homereel.engine.generate import generate, generate_file
from homereel.engine.session import Session
from homereel.jobs.blobs import JobFolder
from homereel.jobs.records import Job, Lease
from homereel.jobs.store import JobStore
from homereel.jobs.warm_model import WarmModel
from homereel.jobs.work import Workplace

Act = Callable[[], object]
# What lies in the folder of a job that is done.
FINISHED = {"clip.mp4", "clip.mp4.latents.safetensors", "thumbnail.webp", "spritesheet.jpg", "log.txt"}


@dataclass(frozen=True)
class Bench:
    """One worker's workplace in this process. The heart beats so often that a wish is heard within a step."""

    store: JobStore
    data: Path
    model: Path
    warm: WarmModel = field(default_factory=WarmModel)

    def submit(self, **wishes: Any) -> Job:
        request = {
            "prompt": "a red ball falls",
            "model": str(self.model),
            "seed": 7,
            "steps": 4,
            "guidance": 1,
            **wishes,
        }
        return self.store.submit({name: wish for name, wish in request.items() if wish is not None})

    def claim(self, worker: str = "one") -> Lease:
        lease = self.store.claim(worker)
        assert lease is not None
        return lease

    def work(self, lease: Lease | None = None, *, place: Workplace | None = None, **options: Any) -> Job | None:
        return (place or self.place()).work(lease or self.claim(), **options)

    def place(self, **changes: Any) -> Workplace:
        return replace(Workplace(self.store, self.data, warm=self.warm, beat_seconds=0.02), **changes)

    def folder(self, job: Job) -> JobFolder:
        return JobFolder(self.data, job.id)

    def log(self, job: Job) -> str:
        return self.folder(job).log.read_text()

    def names(self, job: Job) -> set[str]:
        return {path.name for path in self.folder(job).path.iterdir()}


def acting(step: int, act: Act, *, once: bool = True) -> Callable[..., Any]:
    """The engine's `generate_file`, but `act` is called when this step is done, and unless `once` after later ones."""
    acted: list[int] = []

    def make(request: Request, target: Path, *, on_progress: Callable[[Progress], None], **options: Any) -> Any:
        def told(progress: Progress) -> None:
            on_progress(progress)
            if progress.stage == "denoise" and progress.step >= step and not (once and acted):
                acted.append(step)
                act()

        return generate_file(request, target, on_progress=told, **options)

    return make


def undisturbed(job: Job) -> str:
    """The fingerprint of the frames that a request gives when nothing comes between."""
    return _fingerprint(json.dumps(dict(job.request)))


@functools.cache
def _fingerprint(request: str) -> str:
    with Session() as session:
        return generate(Request.parse(json.loads(request)), session=session).frames_sha256
