"""Files that clients bring: streamed to the disk under random names, known by their first bytes, never by their names.

An upload waits in DATA/uploads until a job takes a copy of it, it is removed, or it was left alone for a week.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from homereel.core.errors import InvalidRequest, TooLarge, UnreadableMedia, UnwritableTarget
from homereel.jobs.data import make_private
from homereel.media.local_file import shown
from homereel.media.sniff import sniff
from homereel.server.attachments import Attachment

KEPT_SECONDS = 7 * 24 * 3600
KINDS = ("mp4", "mov", "matroska", "webm", "gif", "webp", "png", "jpeg", "bmp", "safetensors")
VIDEO_KINDS = frozenset({"mp4", "mov", "matroska", "webm"})
_ID = re.compile(r"file_[0-9a-f]{32}")


@dataclass(frozen=True)
class Upload:
    """One file that is here. `sha256` is known of one that has just come."""

    id: str
    path: Path
    kind: str
    bytes: int
    sha256: str | None = None

    def attached(self, *, shown: str = "") -> Attachment:
        """The upload as a part of a request."""
        return Attachment(self.path, self.sha256 or self.id, shown or self.id)

    def as_dict(self) -> dict[str, object]:
        """What a client is told of it."""
        return {"id": self.id, "object": "file", "kind": self.kind, "bytes": self.bytes, "sha256": self.sha256}


class UploadBox:
    """The folder of uploads. Its methods block; call them from a thread."""

    def __init__(self, folder: Path, *, max_file_bytes: int, max_all_bytes: int) -> None:
        self._folder, self._max_file, self._max_all = folder, max_file_bytes, max_all_bytes
        self._lock = threading.Lock()
        self._coming: dict[str, int] = {}  # bytes of files that are being taken, by their ids
        self._there = 0  # bytes of all others

    def start(self, name: str) -> Incoming:
        """Begin to take a file; `name` is only for messages. Raises TooLarge if the box is full."""
        make_private(self._folder)
        self.sweep()
        incoming = Incoming(self, self._folder, name=shown(name)[:80] or "the file")
        with self._lock:
            sizes = {file.stem: _size(file) for file in self._files()}
            self._there = sum(size for stem, size in sizes.items() if stem not in self._coming)
            self._coming[incoming.id] = 0
        return incoming

    def count(self, upload_id: str, num_bytes: int, *, name: str) -> None:
        """Take note of how large a file is that is being taken. Raises TooLarge if that is too much."""
        if num_bytes > self._max_file:
            raise TooLarge(f"{name} is larger than the {self._max_file:,} bytes that are taken here")
        with self._lock:
            self._coming[upload_id] = num_bytes
            full = self._there + sum(self._coming.values()) > self._max_all
        if full:
            raise TooLarge(
                f"{self._max_all:,} bytes of uploads wait here already; use or remove some, "
                "or start the server with a larger --max-uploads-gb"
            )

    def settle(self, upload_id: str) -> None:
        """A file is whole, or was given up."""
        with self._lock:
            self._there += self._coming.pop(upload_id, 0)

    def find(self, upload_id: str, *, field: str = "") -> Upload:
        """Raises InvalidRequest if there is none of this id."""
        if _ID.fullmatch(upload_id):
            for kind in KINDS:
                path = self._folder / f"{upload_id}.{kind}"
                if path.is_file() and not path.is_symlink():
                    return Upload(upload_id, path, kind, path.stat().st_size)
        raise InvalidRequest(
            f"{field or 'upload'}: there is no upload {shown(upload_id)[:60]!r}; a server opens no file by its path: "
            "POST it to /api/v1/uploads, and give the id that comes back",
            field=field,
        )

    def remove(self, upload_id: str) -> None:
        """Raises InvalidRequest if there is none of this id."""
        self.find(upload_id).path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what nobody came back for, and what was cut off."""
        for file in self._files():
            with suppress(OSError):
                if time.time() - file.lstat().st_mtime > KEPT_SECONDS:
                    file.unlink()

    def _files(self) -> Iterator[Path]:
        return self._folder.iterdir() if self._folder.is_dir() else iter(())


class Incoming:
    """A file that is being taken. End with `finish` or `abandon`."""

    def __init__(self, box: UploadBox, folder: Path, *, name: str) -> None:
        self.id = f"file_{secrets.token_hex(16)}"
        self._box, self._name = box, name
        self._part = folder / f"{self.id}.part"
        self._digest, self._bytes = hashlib.sha256(), 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with _told(self._name):
            self._file: BinaryIO = os.fdopen(os.open(self._part, flags, 0o600), "wb")

    def write(self, piece: bytes) -> None:
        """Raises TooLarge, or UnwritableTarget for a full disk."""
        self._bytes += len(piece)
        self._box.count(self.id, self._bytes, name=self._name)
        self._digest.update(piece)
        with _told(self._name):
            self._file.write(piece)

    def finish(self) -> Upload:
        """The file is whole. Raises UnreadableMedia if it is nothing that a clip can be made from."""
        with _told(self._name):
            self._file.close()
        try:
            kind = _kind_of(self._part, name=self._name)
        except UnreadableMedia:
            self.abandon()
            raise
        path = self._part.with_suffix(f".{kind}")
        self._part.rename(path)
        self._box.settle(self.id)
        return Upload(self.id, path, kind, self._bytes, self._digest.hexdigest())

    def abandon(self) -> None:
        """Leave nothing behind."""
        with suppress(OSError):
            self._file.close()
        self._part.unlink(missing_ok=True)
        self._box.settle(self.id)


def _size(file: Path) -> int:
    try:
        return file.lstat().st_size
    except OSError:  # taken away meanwhile
        return 0


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Turns what the disk says into our own error."""
    try:
        yield
    except OSError as error:
        raise UnwritableTarget(f"{name} cannot be kept: {error.strerror or error}") from None


def _kind_of(path: Path, *, name: str) -> str:
    with path.open("rb") as file:
        head = file.read(9)
        if len(head) == 9 and head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= path.stat().st_size:
            return "safetensors"
        return sniff(file, path=name)
