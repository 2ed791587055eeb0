"""A job's folder: what was uploaded for it, what it saved to go on later, and what it made.

Names in it are ours, never a user's. A file gets its name when it is whole, and nothing is read through a link, so that
whatever stands in the folder can be shown to whoever may see the job.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from homereel.core.errors import TooLarge, UnwritableTarget
from homereel.jobs.data import JOB_FOLDERS, make_private
from homereel.jobs.records import is_job_id
from homereel.jobs.rows import unknown

CLIP = "clip.mp4"
LATENTS = f"{CLIP}.latents.safetensors"  # as engine.kept names them, so that another clip can start from them
THUMBNAIL = "thumbnail.webp"
SPRITESHEET = "spritesheet.jpg"
PREVIEW = "preview.webp"
STATE = "state.safetensors"
LOG = "log.txt"
INPUTS = "inputs"
MAX_INPUT_BYTES = 2 * 2**30

_SUFFIX = re.compile(r"\.[a-z0-9]{1,11}")
_GONE = ".gone-"
_COPIED_BYTES = 2**20


class JobFolder:
    """DATA/jobs/<id>/. Raises UnknownJob for what is no id; the folder need not be there yet."""

    def __init__(self, data: Path, job_id: str) -> None:
        if not is_job_id(job_id):
            raise unknown(job_id)
        self.id = job_id
        self.path = data / JOB_FOLDERS / job_id
        self.inputs = self.path / INPUTS
        self.state = self.path / STATE
        self.clip = self.path / CLIP
        self.thumbnail = self.path / THUMBNAIL
        self.spritesheet = self.path / SPRITESHEET
        self.preview = self.path / PREVIEW
        self.log = self.path / LOG

    def make(self) -> None:
        """Make the folder, readable by its owner alone. Raises StoreUnavailable."""
        make_private(self.path.parent)
        make_private(self.path)

    def put_input(self, source: BinaryIO, suffix: str = "", *, max_bytes: int = MAX_INPUT_BYTES) -> Path:
        """Keep what a stream holds under a random name; of the suffix only plain letters and digits are taken. Raises
        TooLarge, or UnwritableTarget if the disk is full, and then nothing is kept.
        """
        self.make()
        make_private(self.inputs)
        ending = suffix.lower() if _SUFFIX.fullmatch(suffix.lower()) else ""
        path = self.inputs / f"{secrets.token_hex(16)}{ending}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        try:
            with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
                _copy(source, file, max_bytes=max_bytes)
        except BaseException as error:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise UnwritableTarget(f"an upload cannot be kept: {error.strerror or error}") from error
            raise
        return path

    def publish(self, part: Path, name: str) -> Path:
        """Give a whole file its name; it is on the disk then, and replaces an older one. Done twice, it is done once.
        Raises UnwritableTarget.
        """
        from homereel.media.replace import flush_file, flush_folder

        target = self.path / name
        try:
            if not part.exists() and target.exists():
                return target
            flush_file(part)
            part.replace(target)
        except OSError as error:
            raise UnwritableTarget(f"{target} cannot be written: {error.strerror or error}") from error
        flush_folder(self.path)
        return target

    def open(self, name: str) -> BinaryIO:
        """Open one of its files to be shown. Raises FileNotFoundError for a link, a folder or anything else."""
        path = self.path / name
        if not self.is_inside(path):
            raise FileNotFoundError(name)
        try:
            file = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
        except OSError:
            raise FileNotFoundError(name) from None
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise FileNotFoundError(name)
        return os.fdopen(file, "rb")

    def is_inside(self, path: Path) -> bool:
        """Whether this is a regular file in the folder or below, with no link on the way from the folder to it."""
        try:
            parts = path.relative_to(self.path).parts
            if not parts or ".." in parts:
                return False
            steps = [self.path.joinpath(*parts[:count]) for count in range(len(parts) + 1)]
            *above, last = [step.lstat().st_mode for step in steps]
        except (OSError, ValueError):
            return False
        return all(map(stat.S_ISDIR, above)) and stat.S_ISREG(last)

    def read_log(self, *, max_bytes: int = 1_000_000) -> str | None:
        """The end of the log in whole lines, or None if there is none."""
        try:
            with self.open(LOG) as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - max_bytes))
                content = file.read(max_bytes)
        except FileNotFoundError:
            return None
        if size > max_bytes:
            content = content.partition(b"\n")[2]
        return content.decode("utf-8", errors="replace")

    def remove(self) -> None:
        """Take it away with all that is in it: out of sight at once, and links are removed, not followed."""
        gone = self.path.with_name(f"{_GONE}{secrets.token_hex(8)}")
        try:
            self.path.rename(gone)
        except FileNotFoundError:
            return
        except OSError as error:
            raise UnwritableTarget(f"{self.path} cannot be removed: {error.strerror or error}") from None
        shutil.rmtree(gone, ignore_errors=True)


def sweep(data: Path, *, is_known: Callable[[str], bool], min_age_seconds: float = 86_400) -> int:
    """Remove what killed processes left: half removed folders, and those of no job. Returns how many.

    An upload comes before its job, so a young folder is left alone. For the start of a server.
    """
    removed = 0
    folders = data / JOB_FOLDERS
    for path in sorted(folders.iterdir()) if folders.is_dir() else ():
        if path.name.startswith(_GONE):
            shutil.rmtree(path, ignore_errors=True)
            removed += 1
        elif is_job_id(path.name) and not is_known(path.name):
            with suppress(OSError):
                if time.time() - path.lstat().st_mtime > min_age_seconds:
                    JobFolder(data, path.name).remove()
                    removed += 1
    return removed


def _copy(source: BinaryIO, file: BinaryIO, *, max_bytes: int) -> None:
    copied = 0
    while piece := source.read(_COPIED_BYTES):
        copied += len(piece)
        if copied > max_bytes:
            raise TooLarge(f"the upload has more than the {max_bytes:,} bytes that are taken; give a smaller file")
        file.write(piece)
    file.flush()
    os.fsync(file.fileno())
