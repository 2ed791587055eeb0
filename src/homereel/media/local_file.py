"""Open a file for reading so that only a regular local file can be meant, whatever its name looks like.

Every reader of this room comes through here: the decoders get the open file, never the name, so that
`concat:a|b`, `http://x`, `-i` or a name with a newline are names and nothing else.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from homereel.core.errors import UnreadableMedia


@contextmanager
def open_local(path: str | Path, *, max_bytes: int) -> Iterator[BinaryIO]:
    """Open `path` for reading. Raises UnreadableMedia if it is missing, empty, too large or not a regular
    file.
    """
    file = _open(path)
    with file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableMedia(f"{shown(path)} is not a regular file; give the path of a picture or a clip")
        if status.st_size == 0:
            raise UnreadableMedia(f"{shown(path)} is empty; was its download or export cut short?")
        if status.st_size > max_bytes:
            raise UnreadableMedia(
                f"{shown(path)} has {status.st_size:,} bytes; at most {max_bytes:,} are read; "
                "give a shorter or smaller file"
            )
        yield file


def shown(path: str | Path) -> str:
    """The path as it may stand in a one-line message: control characters escaped, very long names cut."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(path))
    return text if len(text) <= 200 else f"{text[:90]}...{text[-90:]}"


def is_folder(path: Path) -> bool:
    """Whether a folder stands there; a name that the system cannot even look up is none."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _open(path: str | Path) -> BinaryIO:
    # O_NONBLOCK: a named pipe opens at once instead of waiting for a writer; it is refused as not regular.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise UnreadableMedia(f"there is no file {shown(path)}; check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UnreadableMedia(f"{shown(path)} cannot be opened: {reason}; check the path and its permissions") from None
    try:
        return os.fdopen(descriptor, "rb")
    except OSError:  # fdopen refuses a directory and leaves the descriptor to us
        os.close(descriptor)
        raise UnreadableMedia(f"{shown(path)} is a folder; give the path of a picture or a clip") from None
