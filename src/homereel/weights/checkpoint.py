"""A model as others pass it on: one .safetensors, .gguf or .pth file, or the numbered parts of one.

The header is read and checked first; tensors are read one by one, never the whole file.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homereel.core.errors import WeightsError
from homereel.weights.gguf_file import MAGIC, GgufTensor, read_gguf_header, read_gguf_tensor
from homereel.weights.pickled.file import SUFFIXES, PickledTensor, read_pickled_header, read_pickled_tensor
from homereel.weights.safetensors_file import TensorInfo, read_header

if TYPE_CHECKING:
    from torch import Tensor

FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
FP8 = {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
_TORCH = {**FLOATS, **FP8, "I8": "int8", "U8": "uint8", "I32": "int32", "I64": "int64", "BOOL": "bool"}
_ARCHIVE = b"PK\x03\x04"
_BARE_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})\.safetensors")


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a checkpoint: its type and shape as stored, and where it lies."""

    dtype: str
    shape: tuple[int, ...]
    path: Path = field(repr=False)
    place: TensorInfo | GgufTensor | PickledTensor = field(repr=False)


@dataclass(frozen=True)
class Checkpoint:
    """Names, types and shapes of all tensors, and the file's own remarks. Holds no data."""

    paths: tuple[Path, ...]
    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str]
    remarks: tuple[str, ...] = ()  # in a line each, how it was opened, where there is something to tell

    @property
    def name(self) -> str:
        """The file's name without its ending, or what its parts have in common."""
        part = _PART.fullmatch(self.paths[0].name)
        return part["stem"] if part else self.paths[0].stem

    def read(self, name: str, *, max_numbers: int | None = None) -> Tensor:
        """A tensor as stored (GGUF's packed forms as float32), or only its first numbers in one row."""
        stored = self.tensors[name]
        if isinstance(stored.place, GgufTensor):
            numbers = read_gguf_tensor(stored.path, stored.place)
            return numbers if max_numbers is None else numbers.reshape(-1)[:max_numbers]
        if isinstance(stored.place, PickledTensor):
            dtype = _torch_type(stored)
            return read_pickled_tensor(stored.path, stored.place, dtype=dtype, max_numbers=max_numbers)
        return _read_safetensors(stored, stored.place, max_numbers=max_numbers)


def open_checkpoint(paths: Sequence[Path], *, trust_pickle: bool = False) -> Checkpoint:
    """One file, or all parts of one. Raises WeightsError if it is damaged, incomplete, or no such file.

    A pickle is opened in a process that can reach nothing; with `trust_pickle` also where there cannot be one.
    """
    tensors: dict[str, StoredTensor] = {}
    metadata: dict[str, str] = {}
    remarks: list[str] = []
    for path in paths:
        kind = _kind(path)
        if kind == "gguf":
            header = read_gguf_header(path)
            found = {name: StoredTensor(info.dtype, info.shape, path, info) for name, info in header.tensors.items()}
        elif kind == "pickle":
            pickled = read_pickled_header(path, trusted=trust_pickle)
            found = {name: StoredTensor(info.dtype, info.shape, path, info) for name, info in pickled.tensors.items()}
            remarks += pickled.remarks
        else:
            found = {name: StoredTensor(info.dtype, info.shape, path, info) for name, info in read_header(path).items()}
            metadata.update(_metadata(path))
        twice = found.keys() & tensors.keys()
        if twice:
            raise WeightsError(f"{path} holds {min(twice)} a second time; give the parts of one file only")
        tensors.update(found)
    if not tensors:
        raise WeightsError(f"{paths[0]} holds no tensors")
    return Checkpoint(tuple(paths), tensors, metadata, tuple(remarks))


def group_parts(paths: Sequence[Path]) -> list[tuple[Path, ...]]:
    """The files, those that are numbered parts of one taken together. Raises WeightsError if a part is missing."""
    groups: dict[tuple[str, str], list[Path]] = {}
    for path in paths:
        part = _PART.fullmatch(path.name)
        key = (str(path.parent), part["stem"] + "/" + part["total"]) if part else (str(path), "")
        groups.setdefault(key, []).append(path)
    for (_, stem), group in groups.items():
        if stem and len({path.name for path in group}) != int(stem.rpartition("/")[2]):
            raise WeightsError(f"{group[0]} is one of {int(stem.rpartition('/')[2])} parts; give all of them")
    return [tuple(sorted(set(group))) for group in groups.values()]


def _kind(path: Path) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from None
    if start == MAGIC:
        return "gguf"
    if start.startswith(_BARE_PICKLES):
        raise WeightsError(
            f"{path} is pickled, which can run code, and as PyTorch did before 1.6; give a .safetensors or .gguf file"
        )
    if start != _ARCHIVE:
        return "safetensors"
    if path.suffix.lower() not in SUFFIXES:
        raise WeightsError(
            f"{path} is pickled, which can run code, and its name hides it; give a .safetensors or .gguf file, "
            f"or call it {SUFFIXES[0]} if that is what you want to open"
        )
    return "pickle"


def _metadata(path: Path) -> dict[str, str]:
    """The header's remarks; the header itself was checked before."""
    with path.open("rb") as file:
        (header_bytes,) = struct.unpack("<Q", file.read(8))
        remarks = json.loads(file.read(header_bytes)).get("__metadata__", {})
    return {str(key): str(value) for key, value in remarks.items()} if isinstance(remarks, dict) else {}


def _read_safetensors(stored: StoredTensor, place: TensorInfo, *, max_numbers: int | None) -> Tensor:
    import torch

    dtype = _torch_type(stored)
    num_bytes = place.end - place.start
    if max_numbers is not None:
        num_bytes = min(num_bytes, max_numbers * dtype.itemsize)
    if num_bytes == 0:
        return torch.empty(stored.shape, dtype=dtype)
    data = bytearray(num_bytes)
    try:
        with stored.path.open("rb") as file:
            (header_bytes,) = struct.unpack("<Q", file.read(8))
            file.seek(8 + header_bytes + place.start)
            num_read = file.readinto(data)
    except OSError as error:
        raise WeightsError(f"{stored.path} cannot be read: {error.strerror or error}") from None
    if num_read != num_bytes:
        raise WeightsError(f"{stored.path} was cut off while it was read")
    numbers = torch.frombuffer(data, dtype=dtype)
    return numbers if max_numbers is not None else numbers.reshape(stored.shape)


def _torch_type(stored: StoredTensor) -> Any:
    import torch

    if stored.dtype not in _TORCH:
        raise WeightsError(f"{stored.path} holds numbers of the type {stored.dtype}, which is not read here")
    return getattr(torch, _TORCH[stored.dtype])
