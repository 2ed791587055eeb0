"""What text encoders made of texts, kept on the disk: another seed of the same words then needs no encoder, which may
be the largest part of a model.

A safetensors file each, named by a hash; the text is not in it. Whoever can read the folder could still try texts until
one fits, so only its owner can. Whatever was not used for the longest time goes first.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from homereel.core.environment import read_environment

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

WORTH_BYTES = 500 * 10**6
"""Readers smaller than this are loaded and asked in less than a second, and a file for each prompt would be clutter:
pocket's has 5 MB. Those of the large models have 7 to 25 GB."""

_FORMAT, _SUFFIX, _UNFINISHED = "homereel-words-1", ".safetensors", ".writing-"
_GIVEN_UP_SECONDS = 3600.0


@dataclass(frozen=True)
class WordStore:
    """Any number of processes may share the folder. With `max_bytes` 0 nothing is kept and nothing is found."""

    folder: Path
    max_bytes: int
    worth_bytes: int = WORTH_BYTES

    @classmethod
    def open(cls) -> WordStore:
        """The one in homereel's folder, as large as HOMEREEL_WORDS_GB says; it is made when something is kept."""
        environment = read_environment()
        return cls(environment.home / "words", environment.words_bytes)

    @classmethod
    def none(cls) -> WordStore:
        """One that keeps and finds nothing, for whoever measures what reading takes."""
        return cls(Path(), 0)

    def is_for(self, reader_bytes: int) -> bool:
        """Whether it pays to keep what readers of this size make."""
        return self.max_bytes > 0 and reader_bytes >= self.worth_bytes

    def has(self, key: str) -> bool:
        """Whether there is such a file."""
        return self.max_bytes > 0 and self._path(key).is_file()

    def load(self, key: str) -> dict[str, Tensor] | None:
        """The tensors of `save`, bit for bit; None if there are none. A damaged file is removed."""
        from safetensors import SafetensorError, safe_open

        path = self._path(key)
        if not self.has(key):
            return None
        try:
            with safe_open(str(path), framework="pt") as stored:
                about = stored.metadata() or {}
                # Copied, since sums over memory that is aligned otherwise may differ in the last bit.
                words = {name: stored.get_tensor(name).clone() for name in stored.keys()}  # noqa: SIM118
            if about.get("format") != _FORMAT or about.get("sum") != _sum(words):
                raise ValueError("its content is not what was written")
        except FileNotFoundError:  # made room for another just now
            return None
        except (OSError, SafetensorError, ValueError) as error:
            log.warning("%s is damaged and is removed: %s", path, error)
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):  # it was used; where that cannot be noted, it only goes sooner
            os.utime(path)
        return words

    def save(self, key: str, words: Mapping[str, Tensor]) -> None:
        """Keep them, whole or not at all. A folder that cannot be written only means reading again."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        kept = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in words.items()}
        temporary = None
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=_UNFINISHED)
            os.close(handle)
            save_file(kept, temporary, metadata={"format": _FORMAT, "sum": _sum(kept)})
            Path(temporary).replace(self._path(key))
            self._make_room()
        except (OSError, SafetensorError) as error:
            log.warning("what was read of the words cannot be kept in %s: %s", self.folder, error)
        finally:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{_SUFFIX}"

    def _make_room(self) -> None:
        """Remove what was not used for longest, and what killed processes left."""
        found = sorted((state.st_mtime, state.st_size, path) for path, state in _files(self.folder))
        for at, _, path in found:
            if path.name.startswith(_UNFINISHED) and time.time() - at > _GIVEN_UP_SECONDS:
                path.unlink(missing_ok=True)
        kept = [(size, path) for _, size, path in found if path.suffix == _SUFFIX]
        total = sum(size for size, _ in kept)
        for size, path in kept:
            if total <= self.max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process made room
            yield path, path.stat()


def _sum(words: Mapping[str, Tensor]) -> str:
    """Over everything: a disk that lost power may keep a file's length and not its content."""
    import torch

    found = hashlib.sha256()
    for name in sorted(words):
        tensor = words[name]
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
