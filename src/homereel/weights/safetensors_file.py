"""Checks the header of a safetensors file, so that a damaged or false file is refused before it is loaded.

Layout: 8 bytes of header length, the header as JSON (name → dtype, shape, byte range), then the bytes.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homereel.core.errors import WeightsError

MAX_HEADER_BYTES = 64 * 1024**2

_ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4,
    "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip


@dataclass(frozen=True)
class TensorInfo:
    """One tensor as the header describes it; `start` and `end` count from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(path: Path) -> dict[str, TensorInfo]:
    """The tensors of a file, by name.

    Raises WeightsError if the file is missing, cut off, no safetensors file at all, or if its parts overlap.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            prefix = file.read(8)
            header_bytes = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
            if not 2 <= header_bytes <= MAX_HEADER_BYTES or 8 + header_bytes > size:
                raise WeightsError(f"{path} is not a safetensors file, or was cut off; fetch it again")
            raw = file.read(header_bytes)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from None
    tensors = _parse(raw, path)
    _check_ranges(tensors, path, data_bytes=size - 8 - header_bytes)
    return tensors


def _parse(raw: bytes, path: Path) -> dict[str, TensorInfo]:
    try:
        header = json.loads(raw)
        return {name: _tensor(entry) for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise WeightsError(f"{path} has a damaged header; fetch it again") from None


def _tensor(entry: Mapping[str, Any]) -> TensorInfo:
    start, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    numbers = (start, end, *shape)
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError(numbers)
    if math.prod(shape) * _ITEM_BYTES[entry["dtype"]] != end - start:
        raise ValueError(shape)
    return TensorInfo(dtype=entry["dtype"], shape=shape, start=start, end=end)


def _check_ranges(tensors: Mapping[str, TensorInfo], path: Path, *, data_bytes: int) -> None:
    position = 0
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.start, tensor.end)):
        if tensor.start != position:
            raise WeightsError(f"{path} is damaged: its tensors overlap or leave gaps; fetch it again")
        position = tensor.end
    if position != data_bytes:
        raise WeightsError(
            f"{path} holds {data_bytes} bytes of weights where its header says {position}; fetch it again"
        )
