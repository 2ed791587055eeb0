"""Write whole or not at all: a temporary file beside the target, flushed to the disk, then renamed over
it.

Whatever ends the work (an error, Ctrl-C, the frames' source giving up), nothing is left behind. A killed
process leaves at most a hidden file whose name starts with `.homereel-`.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from homereel.core.errors import UnwritableTarget
from homereel.media.local_file import shown

_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})


@contextmanager
def replacing_file(target: Path, *, needed_bytes: int | None = None) -> Iterator[Path]:
    """An empty hidden file to fill; it becomes `target` at the end, or is removed.

    `needed_bytes` is only told in the message when the disk runs full.
    """
    temporary = temporary_path(target.parent)
    with writing(target, needed_bytes=needed_bytes):
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            yield temporary
            flush_file(temporary)
            temporary.replace(target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    flush_folder(target.parent)


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A hidden folder inside `parent` that is gone afterwards, unless it was renamed meanwhile."""
    folder = temporary_path(parent)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def writing(target: Path, *, needed_bytes: int | None = None) -> Iterator[None]:
    """Turn a failing disk into UnwritableTarget. Errors of the frames' source must be kept out with
    `SourceFailed`.
    """
    try:
        yield
    except SourceFailed as failed:
        raise failed.error from failed.error.__cause__
    except OSError as error:
        raise UnwritableTarget(_reason(target, error, needed_bytes=needed_bytes)) from error


class SourceFailed(Exception):
    """Carries an exception of whoever makes the frames past the handling of disk errors, to be raised
    unchanged.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def temporary_path(folder: Path) -> Path:
    """A random hidden name in `folder`; nothing is created."""
    return folder / f".homereel-{secrets.token_hex(8)}.part"


def flush_folder(folder: Path) -> None:
    """Have the system put a folder's names on the disk, where folders can be flushed at all."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def flush_file(path: Path) -> None:
    """Have the system put a file's content on the disk."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(target: Path, error: OSError, *, needed_bytes: int | None) -> str:
    if error.errno == errno.EFBIG:
        return f"{shown(target)} was not written: it is larger than this disk or shell allows a file to be"
    if error.errno in _FULL:
        need = f"about {needed_bytes:,} bytes are needed; " if needed_bytes else ""
        return f"the disk is full, {shown(target)} was not written; {need}free some room or choose another disk"
    return f"{shown(target)} cannot be written: {error.strerror or error}; check the folder and its permissions"
