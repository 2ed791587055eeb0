"""Writes safetensors files tensor by tensor, so that a large network is converted in the memory of one tensor."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from homereel.core.errors import Stopped, WeightsError

if TYPE_CHECKING:
    from torch import Tensor

MAX_SHARD_BYTES = 5_000_000_000
_ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "I8": 1}


@dataclass(frozen=True)
class Entry:
    """A tensor that is to be written."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * _ITEM_BYTES[self.dtype]


def write_shards(
    folder: Path,
    *,
    entries: Mapping[str, Entry],
    read: Callable[[str], Tensor],
    stem: str = "diffusion_pytorch_model",
    max_shard_bytes: int = MAX_SHARD_BYTES,
    on_bytes: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> None:
    """One file, or numbered ones and their index; `read` gives each tensor in its entry's type and shape.

    Raises WeightsError if the disk is full, Stopped if a stop was asked for. What was written stays.
    """
    shards = list(_shards(entries, max_shard_bytes))
    for number, names in enumerate(shards, start=1):
        path = folder / _file_name(stem, number, len(shards))
        try:
            with path.open("wb") as file:
                file.write(_header({name: entries[name] for name in names}))
                for name in names:
                    if should_stop is not None and should_stop():
                        raise Stopped("stopped")
                    file.write(_raw(read(name), entries[name]))
                    if on_bytes is not None:
                        on_bytes(entries[name].num_bytes)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise WeightsError(f"{path} cannot be written: {error.strerror or error}") from None
    if len(shards) > 1:
        weight_map = {
            name: _file_name(stem, number, len(shards))
            for number, names in enumerate(shards, start=1)
            for name in names
        }
        total = sum(entry.num_bytes for entry in entries.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")


def _shards(entries: Mapping[str, Entry], max_bytes: int) -> Iterator[list[str]]:
    names: list[str] = []
    size = 0
    for name, entry in entries.items():
        if names and size + entry.num_bytes > max_bytes:
            yield names
            names, size = [], 0
        names.append(name)
        size += entry.num_bytes
    yield names


def _file_name(stem: str, number: int, total: int) -> str:
    return f"{stem}.safetensors" if total == 1 else f"{stem}-{number:05d}-of-{total:05d}.safetensors"


def _header(entries: Mapping[str, Entry]) -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, entry in entries.items():
        end = position + entry.num_bytes
        header[name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [position, end]}
        position = end
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw


def _raw(tensor: Tensor, entry: Entry) -> memoryview:
    import torch

    assert tuple(tensor.shape) == entry.shape, (tuple(tensor.shape), entry)
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    assert flat.numel() == entry.num_bytes, (flat.numel(), entry)
    return flat.numpy().data
