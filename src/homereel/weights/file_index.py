"""Which weight files lie elsewhere on this disk, such as in ComfyUI's folders, so that none is fetched twice.

A scan only notes sizes, so it takes seconds; a file is hashed when one of exactly its size is wanted.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homereel.core.environment import read_environment
from homereel.core.errors import InvalidRequest, WeightsError
from homereel.weights.hashes import hash_files

_NAME = "files.json"
_SUFFIXES = (".safetensors", ".gguf")
_MIN_BYTES = 4096


@dataclass(frozen=True)
class FileIndex:
    """Sizes of files by their paths, as the last scans found them."""

    sizes: Mapping[str, int]

    def find(self, *, size: int, sha256: str) -> Path | None:
        """A file with this content that is there now."""
        for name, known in self.sizes.items():
            path = Path(name)
            if known != size or _size(path) != size:
                continue
            with suppress(WeightsError):  # it cannot be read: as if it were not there
                if hash_files({"": path})[""] == sha256:
                    return path
        return None


def read_index(home: Path | None = None) -> FileIndex:
    """What earlier scans found; empty if there was none."""
    path = (home or read_environment().home) / _NAME
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        sizes = {str(name): int(size) for name, size in content["files"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return FileIndex({})
    return FileIndex(sizes)


def scan_folder(folder: Path, *, home: Path | None = None) -> dict[str, int]:
    """Note the weight files below a folder, and forget those that are gone; returns those found.

    Raises InvalidRequest if there is no such folder, WeightsError if the index cannot be written.
    """
    folder = folder.expanduser()
    if not folder.is_dir():
        raise InvalidRequest(f"{folder} is no folder; give one with model files, such as ComfyUI/models", field="dir")
    root = folder.resolve()
    found = dict(_weight_files(root))
    home = home or read_environment().home
    prefix = str(root).rstrip(os.sep) + os.sep
    kept = {name: size for name, size in read_index(home).sizes.items() if not name.startswith(prefix)}
    _write(home / _NAME, {**kept, **found})
    return found


def _weight_files(root: Path) -> Iterator[tuple[str, int]]:
    for folder, _, names in os.walk(root):
        for name in names:
            if name.lower().endswith(_SUFFIXES):
                path = Path(folder) / name
                size = _size(path)
                if size is not None and size >= _MIN_BYTES:
                    yield str(path), size


def _size(path: Path) -> int | None:
    """None for what is not there, or no ordinary file."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_size if stat.S_ISREG(state.st_mode) else None


def _write(path: Path, sizes: Mapping[str, int]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".files-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"schema": 1, "files": sizes}, file, indent=1)
        Path(temporary).replace(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be written: {error.strerror or error}; set HOMEREEL_HOME") from None
