"""Finished clips as one film: joined once, and kept for a day in DATA/films under a name that their content decides."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter

from homereel import __version__, media
from homereel.core.errors import InvalidRequest, Stopped
from homereel.jobs.data import make_private
from homereel.jobs.records import Job
from homereel.server.errors import NotReady
from homereel.server.intake import Intake
from homereel.workflows.film import FILM_QUALITY, join_clips

KEPT_SECONDS = 24 * 3600
MAX_CLIPS = 500
_ID = re.compile(r"film_[0-9a-f]{32}")


@dataclass(frozen=True)
class Film:
    """One joined file."""

    id: str
    path: Path

    def as_dict(self) -> dict[str, Any]:
        """What a client is told of it."""
        look = media.probe(self.path)
        return {
            "id": self.id,
            "object": "film",
            "bytes": look.size_bytes,
            "width": look.width,
            "height": look.height,
            "num_frames": look.num_frames,
            "fps": look.fps,
            "seconds": look.seconds,
            "has_sound": look.sound is not None,
            "links": {"content": f"/api/v1/films/{self.id}/content"},
        }


class FilmBox:
    """The folder of films. Its methods block; call them from a thread, `join` with the limiter `turns`."""

    def __init__(self, folder: Path, *, intake: Intake, is_ending: Callable[[], bool]) -> None:
        self._folder, self._intake, self._is_ending = folder, intake, is_ending
        self._lock = threading.Lock()
        self.turns = CapacityLimiter(1)  # who waits for another film holds no thread

    def join(self, cuts: Sequence[tuple[Job, int]], *, title: str = "") -> Film:
        """The film of these jobs' clips, of each without so many frames at its start; made if it is not there yet.

        Raises InvalidRequest (also for clips that do not go together), WrongState for a clip that is not done,
        UnreadableMedia, UnwritableTarget, and Stopped if the server ends meanwhile.
        """
        if not 1 <= len(cuts) <= MAX_CLIPS:
            raise InvalidRequest(f"clips: a film is joined of 1 to {MAX_CLIPS}; {len(cuts)} were named", field="clips")
        clips = [(self._intake.clip_of(job.id), skip) for job, skip in cuts]
        told = [[clip.key, skip] for clip, skip in clips], title, FILM_QUALITY, __version__
        film_id = f"film_{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]}"
        target = self._folder / f"{film_id}.mp4"
        with self._lock:
            self.sweep()
            if not target.is_file():
                make_private(self._folder)
                join_clips(
                    [(clip.path, skip) for clip, skip in clips],
                    target,
                    title=title,
                    names=[_name(number, job) for number, (job, _) in enumerate(cuts, start=1)],
                    on_progress=self._go_on,
                )
            os.utime(target)
        return Film(film_id, target)

    def find(self, film_id: str) -> Film:
        """One that was joined. Raises NotReady if there is none of this id."""
        path = self._folder / f"{film_id}.mp4"
        if _ID.fullmatch(film_id) is None or path.is_symlink() or not path.is_file():
            raise NotReady("there is no such film; films are kept for a day: POST its clips to /api/v1/films again")
        return Film(film_id, path)

    def sweep(self) -> None:
        """Remove what nobody has asked for in a day; it is made again when it is wanted."""
        for path in self._files():
            with suppress(OSError):
                if time.time() - path.lstat().st_mtime > KEPT_SECONDS:
                    path.unlink()

    def _files(self) -> Iterator[Path]:
        return self._folder.iterdir() if self._folder.is_dir() else iter(())

    def _go_on(self, _share: float) -> None:
        if self._is_ending():
            raise Stopped("the server ends; ask for the film once more when it runs again")


def skip_frames(job: Job, *, before: str | None) -> int:
    """How many frames at a clip's start the clip before it shows already: one, where it starts from that one's last."""
    return 1 if job.extra.get("takes") == "image" and job.parent is not None and job.parent == before else 0


def _name(number: int, job: Job) -> str:
    prompt = " ".join(str(job.request.get("prompt", "")).split())
    return f'clip {number} ("{prompt if len(prompt) <= 40 else prompt[:40] + " …"}")'
