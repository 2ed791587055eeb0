"""Reads a GGUF file: its header is checked before memory is taken, its blocks are turned into plain numbers.

Layout: "GGUF", version, counts, key-value pairs, then name, shape, type and offset of each tensor, then the bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from homereel.core.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

MAGIC = b"GGUF"
MAX_HEADER_BYTES = 64 * 1024**2
MAX_COUNT = 1_000_000  # pairs, tensors, and items of an array of strings
MAX_DIMENSIONS = 8
CHUNK_NUMBERS = 8_000_000  # so many numbers are unpacked at once, as the unpacking takes several times their room

# Scalars of the key-value pairs by their number; 8 is a string and 9 an array.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_PLAIN = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_ORIGINAL_SHAPE = "comfy.gguf.orig_shape."  # where ComfyUI's converter notes a shape that it had to change


@dataclass(frozen=True)
class GgufTensor:
    """One tensor as the header describes it; `start` and `end` count from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class GgufHeader:
    """The tensors by name, and the key-value pairs that are single values or short lists."""

    tensors: dict[str, GgufTensor]
    pairs: dict[str, Any]


def read_gguf_header(path: Path) -> GgufHeader:
    """Raises WeightsError if the file is missing, cut off, damaged, or of a kind that cannot be read."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            reader = _Reader(file, path, size=size)
            if reader.take(4) != MAGIC or reader.number("I") not in (2, 3):
                raise WeightsError(f"{path} is not a GGUF file of version 2 or 3")
            num_tensors, num_pairs = reader.count(), reader.count()
            pairs = dict(reader.pair() for _ in range(num_pairs))
            entries = [reader.entry() for _ in range(num_tensors)]
            position = file.tell()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from None
    alignment = pairs.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= 2**20:
        raise reader.damaged("its alignment makes no sense")
    start = -(-position // alignment) * alignment
    tensors = {}
    for name, shape, kind, offset in entries:
        if name in tensors:
            raise reader.damaged(f"it holds {name} twice")
        dtype, num_bytes = _stored(shape, kind, name=name, damaged=reader.damaged)
        if start + offset + num_bytes > size:
            raise WeightsError(f"{path} was cut off: {name} lies beyond its end; fetch it again")
        original = _original_shape(shape, pairs.get(_ORIGINAL_SHAPE + name))
        tensors[name] = GgufTensor(dtype, original, start + offset, start + offset + num_bytes)
    return GgufHeader(tensors, pairs)


def read_gguf_tensor(path: Path, tensor: GgufTensor) -> Tensor:
    """The numbers: as stored if they are plain, else unpacked to float32."""
    import numpy as np
    import torch

    try:
        stored = np.fromfile(path, dtype=np.uint8, count=tensor.end - tensor.start, offset=tensor.start)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from None
    if stored.size != tensor.end - tensor.start:
        raise WeightsError(f"{path} was cut off while it was read")
    if tensor.dtype in _PLAIN:
        return torch.from_numpy(stored).view(getattr(torch, _PLAIN[tensor.dtype])).reshape(tensor.shape)
    return _unpack(stored, tensor)


def _unpack(stored: Any, tensor: GgufTensor) -> Tensor:
    import gguf
    import torch
    from gguf.quants import dequantize

    kind = gguf.GGMLQuantizationType[tensor.dtype]
    per_block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    blocks = stored.reshape(-1, block_bytes)
    numbers = torch.empty(blocks.shape[0] * per_block)
    step = max(1, CHUNK_NUMBERS // per_block)
    for first in range(0, blocks.shape[0], step):
        part = dequantize(blocks[first : first + step], kind)
        numbers[first * per_block : first * per_block + part.size] = torch.from_numpy(part.reshape(-1))
    return numbers.reshape(tensor.shape)


def _stored(shape: tuple[int, ...], kind: int, *, name: str, damaged: Callable[[str], WeightsError]) -> tuple[str, int]:
    """The name of a tensor's type, and the bytes that it takes."""
    import gguf
    from gguf.quants import _type_traits as unpackers

    try:
        known = gguf.GGMLQuantizationType(kind)
    except ValueError:
        raise damaged(f"{name} is of the unknown type {kind}") from None
    if known.name not in _PLAIN and known not in unpackers:
        raise WeightsError(f"{name} is stored as {known.name}, which is not read here; take Q8_0, Q4_K_M or the like")
    per_block, block_bytes = gguf.GGML_QUANT_SIZES[known]
    if shape[-1] % per_block:
        raise damaged(f"the rows of {name} are no multiple of {per_block}")
    return known.name, math.prod(shape) // per_block * block_bytes


def _original_shape(shape: tuple[int, ...], noted: Any) -> tuple[int, ...]:
    if isinstance(noted, list) and all(isinstance(side, int) and side > 0 for side in noted):
        return tuple(noted) if math.prod(noted) == math.prod(shape) else shape
    return shape


class _Reader:
    """Reads the header piece by piece, and never more than there can be."""

    def __init__(self, file: BinaryIO, path: Path, *, size: int) -> None:
        self._file, self._path = file, path
        self._left = min(size, MAX_HEADER_BYTES)

    def damaged(self, reason: str) -> WeightsError:
        return WeightsError(f"{self._path} has a damaged header: {reason}; fetch it again")

    def take(self, num_bytes: int) -> bytes:
        if num_bytes > self._left:
            raise self.damaged("it is cut off, or names sizes that cannot be")
        self._left -= num_bytes
        return self._file.read(num_bytes)

    def number(self, form: str) -> Any:
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))[0]

    def count(self) -> int:
        count: int = self.number("Q")
        if count > MAX_COUNT:
            raise self.damaged(f"it counts {count} entries")
        return count

    def text(self) -> str:
        return self.take(self.number("Q")).decode("utf-8", errors="replace")

    def pair(self) -> tuple[str, Any]:
        return self.text(), self.value(self.number("I"))

    def value(self, kind: int) -> Any:
        """A string, a number, or a short list of numbers; longer lists are passed over."""
        if kind == _STRING:
            return self.text()
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind != _ARRAY:
            raise self.damaged(f"there is no value of type {kind}")
        item, num_items = self.number("I"), self.number("Q")
        if item in _SCALARS:
            raw = self.take(num_items * struct.calcsize("<" + _SCALARS[item]))
            return list(struct.unpack(f"<{num_items}{_SCALARS[item]}", raw)) if num_items <= MAX_DIMENSIONS else None
        if item != _STRING or num_items > MAX_COUNT:
            raise self.damaged("it holds a list that cannot be")
        for _ in range(num_items):
            self.text()
        return None

    def entry(self) -> tuple[str, tuple[int, ...], int, int]:
        """Name, shape (outermost side first), type and offset of a tensor."""
        name, num_dimensions = self.text(), self.number("I")
        if not 1 <= num_dimensions <= MAX_DIMENSIONS:
            raise self.damaged(f"{name} has {num_dimensions} dimensions")
        sides = [self.number("Q") for _ in range(num_dimensions)]
        if 0 in sides:
            raise self.damaged(f"{name} is empty")
        return name, tuple(reversed(sides)), self.number("I"), self.number("Q")
