"""SHA-256 of model files; for large ones it is remembered by size and time of change."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from homereel.core.environment import read_environment
from homereel.core.errors import WeightsError

REMEMBER_FROM_BYTES = 64 * 1024**2


def hash_files(files: Mapping[str, Path], *, memory: Path | None = None) -> dict[str, str]:
    """The SHA-256 of each file, under the same keys. `memory` is the file that remembers."""
    memory = memory if memory is not None else read_environment().home / "hashes.json"
    known = _remembered(memory)
    fresh = {}
    digests = {}
    for key, path in files.items():
        mark = _mark(path)
        digest = known.get(mark) if mark else None
        if digest is None:
            digest = _digest(path)
            if mark:
                fresh[mark] = digest
        digests[key] = digest
    if fresh:
        _remember(memory, {**known, **fresh})
    return digests


def known_hashes(files: Mapping[str, Path], *, memory: Path | None = None) -> dict[str, str] | None:
    """The same without reading anything large: None if a large file's is not remembered. Raises WeightsError."""
    known = _remembered(memory if memory is not None else read_environment().home / "hashes.json")
    found = {}
    for key, path in files.items():
        mark = _mark(path)
        digest = known.get(mark) if mark else _small_digest(path, path.stat().st_size, path.stat().st_mtime_ns)
        if digest is None:
            return None
        found[key] = digest
    return found


def remember_hash(path: Path, digest: str, *, memory: Path | None = None) -> None:
    """The file was just found to have this SHA-256: do not reckon it again."""
    memory = memory if memory is not None else read_environment().home / "hashes.json"
    mark = _mark(path)
    if mark:
        _remember(memory, {**_remembered(memory), mark: digest})


def _mark(path: Path) -> str | None:
    """What must not have changed for a remembered hash to hold; None for files that are quick to read."""
    try:
        state = path.stat()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from None
    if state.st_size < REMEMBER_FROM_BYTES:
        return None
    return f"{path.resolve()}|{state.st_size}|{state.st_mtime_ns}"


@lru_cache(maxsize=256)
def _small_digest(path: Path, _size: int, _changed_at: int) -> str:
    """A server plans hundreds of clips a second."""
    return _digest(path)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from None


def _remembered(memory: Path) -> dict[str, str]:
    try:
        content: Any = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _remember(memory: Path, known: Mapping[str, str]) -> None:
    """Best effort: a home that cannot be written only means hashing again."""
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=memory.parent, prefix=".hashes-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(known, file)
        Path(temporary).replace(memory)
    except OSError:
        return
