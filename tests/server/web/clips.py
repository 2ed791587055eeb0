"""Finished clips without a model: jobs that are queued as the studio queues them, and done with a few drawn frames."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from homereel import media
from homereel.core.request import Request
from homereel.core.result import sound_sha256
from homereel.core.sound import Sound
from homereel.jobs.blobs import JobFolder
from homereel.jobs.records import Job
from homereel.server.intake import Wish
from homereel.server.parts import Parts
from homereel.server.video_object import plan_of

Draw: TypeAlias = Callable[[tuple[int, int, int, int], int], NDArray[np.uint8]]
FIELDS = {"prompt": "a red ball", "model": "tiny", "steps": 2, "num_frames": 5, "seed": 7}


def finished(parts: Parts, *, board: str | None = None, sound: Sound | None = None, **fields: Any) -> Job:
    """A job that was queued and is done; its clip carries its record."""
    parts.intake.accept(Wish({**FIELDS, **fields}, extra={} if board is None else {"board": board}))
    return finish_next(parts, sound=sound)


def finish_next(parts: Parts, *, sound: Sound | None = None, draw: Draw | None = None) -> Job:
    """Do the next job of the queue, with frames of noise unless others are drawn."""
    lease = parts.store.claim("tester")
    assert lease is not None
    job = lease.job
    plan = plan_of(job)
    folder = JobFolder(parts.settings.data, job.id)
    folder.make()
    shape = (plan["num_frames"], plan["height"], plan["width"], 3)
    noise = np.random.default_rng(plan["seed"]).integers(0, 256, shape, np.uint8)
    frames = noise if draw is None else draw(shape, plan["seed"])
    request = Request.parse(job.request).model_dump(mode="json")
    record = {"homereel": {"schema": 1, "request": request, "resolved": dict(plan), "model": {"id": job.model}}}
    media.write_clip(frames, folder.clip, fps=plan["fps"], record=record, sound=sound)
    Image.fromarray(frames[len(frames) // 2]).save(folder.thumbnail, "WEBP")
    sha256 = hashlib.sha256(folder.clip.read_bytes()).hexdigest()
    result = {"file": "clip.mp4", "sha256": sha256, "num_frames": plan["num_frames"], "fps": plan["fps"]}
    result |= {} if sound is None else {"sound_sha256": sound_sha256(sound)}
    return parts.store.complete(lease, result)
