"""The token in a file that only its owner can read; made, if it is not there."""

from __future__ import annotations

import os
import secrets
import stat
import sys
from pathlib import Path

from homereel.core.errors import InvalidRequest


def read_token(path: Path) -> str:
    """The first line of the file. A file that is not there is made, with a fresh token and mode 0600.

    Raises InvalidRequest if others than the owner can read it, or if it cannot be read or made.
    """
    try:
        return _make(path)
    except FileExistsError:
        return _read(path)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be made: {error.strerror or error}", field="token") from None


def _make(path: Path) -> str:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    token = secrets.token_urlsafe(32)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{token}\n")
    return token


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            if sys.platform != "win32" and mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise InvalidRequest(
                    f"{path} can be read by others (mode {stat.S_IMODE(mode):04o}); chmod 600 {path}", field="token"
                )
            token = file.readline(2_000).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise InvalidRequest(f"{path} cannot be read: {reason}", field="token") from None
    if not token:
        raise InvalidRequest(f"{path} is empty; remove it, and a token is made", field="token")
    return token
