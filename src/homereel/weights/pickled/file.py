"""Tensors of a .pth file, which are read one by one, straight from where they lie in it.

Only the list of them, which is the pickle in the file, goes to another process: one that is locked in, see
`homereel.weights.locked`. What comes back is as untrusted as the file: each place is checked against the file's table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homereel.core.errors import WeightsError
from homereel.weights.locked.process import Answer, CallFailed, NotLocked, call_locked
from homereel.weights.pickled.archive import Record, read_records

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".pth", ".pt")
MAX_PICKLE_BYTES = 64 * 1024**2
_DESCRIBE = "homereel.weights.pickled.describe:describe"
# torch's name of a type: safetensors' name of it, and its bytes.
_TYPES = {
    "float64": ("F64", 8), "float32": ("F32", 4), "float16": ("F16", 2), "bfloat16": ("BF16", 2),
    "float8_e4m3fn": ("F8_E4M3", 1), "float8_e5m2": ("F8_E5M2", 1),
    "int64": ("I64", 8), "int32": ("I32", 4), "int8": ("I8", 1), "uint8": ("U8", 1), "bool": ("BOOL", 1),
}  # fmt: skip
_MAX_NUMBER = 2**48


@dataclass(frozen=True)
class PickledTensor:
    """One tensor: its type and shape, and where its numbers lie; strides count numbers, not bytes."""

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class PickledFile:
    """The tensors of a file by name, and in a line each how it was opened."""

    tensors: Mapping[str, PickledTensor]
    remarks: tuple[str, ...]


def read_pickled_header(path: Path, *, trusted: bool) -> PickledFile:
    """What the file holds. Raises WeightsError if it is damaged, holds more than weights, or cannot be opened safely.

    `trusted` opens it also where a process cannot be locked in.
    """
    records = read_records(path)
    root = _root(records, path)
    pickled = bytes(_read(path, records[f"{root}/data.pkl"]))
    if f"{root}/byteorder" in records and _read(path, records[f"{root}/byteorder"]) != b"little":
        raise WeightsError(f"{path} was saved on a machine of another byte order; save it anew on a common one")
    try:
        answer = call_locked(_DESCRIBE, pickled, trusted=trusted)
    except NotLocked as error:
        raise WeightsError(
            f"{path} is pickled, which can run code, and here it cannot be opened in a locked process ({error}); "
            "convert it on a Linux machine, or if you trust who made it, add --trust-pickle"
        ) from None
    except CallFailed as error:
        raise WeightsError(f"{path} could not be opened: {_plain(str(error))}; give a .safetensors file") from None
    data = {name.removeprefix(f"{root}/data/"): each for name, each in records.items() if "/data/" in name}
    return PickledFile(_tensors(answer.value, data, path), tuple(_remarks(answer, path)))


def read_pickled_tensor(path: Path, place: PickledTensor, *, dtype: Any, max_numbers: int | None = None) -> Tensor:
    """The numbers of one, as torch's `dtype`, or only its first in one row."""
    import torch

    num_bytes = place.end - place.start
    in_order = place.strides == _plain_strides(place.shape)
    if max_numbers is not None and in_order:
        num_bytes = min(num_bytes, max_numbers * dtype.itemsize)
    if num_bytes == 0:
        return torch.empty(place.shape, dtype=dtype)
    numbers = torch.frombuffer(_read(path, Record(place.start, num_bytes)), dtype=dtype)
    if max_numbers is not None and in_order:
        return numbers
    numbers = numbers.as_strided(place.shape, place.strides)
    return numbers if max_numbers is None else numbers.reshape(-1)[:max_numbers]


def _root(records: Mapping[str, Record], path: Path) -> str:
    """The folder in the archive that all of it lies in."""
    roots = {name.partition("/")[0] for name in records}
    if any(name.endswith("/constants.pkl") for name in records):
        raise WeightsError(f"{path} is a program (TorchScript), not a file of weights; give the weights alone")
    if len(roots) != 1 or f"{min(roots)}/data.pkl" not in records:
        raise WeightsError(f"{path} is a zip file, but not one that torch.save wrote")
    root = min(roots)
    if records[f"{root}/data.pkl"].num_bytes > MAX_PICKLE_BYTES:
        raise WeightsError(f"{path} holds a pickle of more than {MAX_PICKLE_BYTES} bytes, which no list of weights is")
    return root


def _tensors(answer: Any, data: Mapping[str, Record], path: Path) -> dict[str, PickledTensor]:
    if not isinstance(answer, dict) or not isinstance(answer.get("tensors"), dict):
        reason = answer.get("refused") if isinstance(answer, dict) else None
        told = _plain(reason) if isinstance(reason, str) else "nothing is known of what it holds"
        raise WeightsError(f"{path} is refused: {told}")
    return {_name(name, path): _tensor(name, entry, data, path) for name, entry in answer["tensors"].items()}


def _name(name: str, path: Path) -> str:
    if not name.isprintable() or len(name) > 500:
        raise WeightsError(f"{path} is refused: {_plain(name)} is no name of a tensor")
    return name


def _tensor(name: str, entry: Any, data: Mapping[str, Record], path: Path) -> PickledTensor:
    """Checked as a stranger's word: it must lie in one record, and take no more than there is."""
    try:
        kind, shape, strides, first, storage = entry
        dtype, item_bytes = _TYPES[kind]
        numbers = (first, *shape, *strides)
        if not all(type(number) is int and 0 <= number <= _MAX_NUMBER for number in numbers):
            raise ValueError(numbers)
        count, last = 1, 0
        for side, stride in zip(shape, strides, strict=True):
            count, last = count * side, last + max(0, side - 1) * stride
        end = (first + last + 1 if count else first) * item_bytes
        record = data[storage]
        if end > record.num_bytes or count * item_bytes > record.num_bytes:
            raise ValueError(end)
    except (KeyError, ValueError, TypeError):
        raise WeightsError(f"{path} is refused: {_plain(name)} does not lie in the file as it says") from None
    start = record.start + first * item_bytes
    return PickledTensor(dtype, tuple(shape), tuple(strides), start, record.start + end)


def _remarks(answer: Answer, path: Path) -> list[str]:
    walls = ", ".join(answer.walls)
    told = [
        f"the pickle of {path.name} was opened in a process that could reach neither files nor network ({walls})"
        if walls
        else f"the pickle of {path.name} was opened in a process of its own that was not locked in, as you asked"
    ]
    left = answer.value.get("left")
    if isinstance(left, list) and left:
        told.append(f"not used: {_plain(', '.join(map(str, left[:5])))}, which {path.name} holds beside the tensors")
    return told


def _plain_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for side in reversed(shape):
        strides.append(step)
        step *= max(1, side)
    return tuple(reversed(strides))


def _plain(text: str) -> str:
    """A stranger's words, in one short line that cannot move the cursor."""
    shown = "".join(character if character.isprintable() else "?" for character in text[:300])
    return shown if len(text) <= 300 else shown + "..."


def _read(path: Path, record: Record) -> bytearray:
    data = bytearray(record.num_bytes)
    try:
        with path.open("rb") as file:
            file.seek(record.start)
            num_read = file.readinto(data)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from None
    if num_read != record.num_bytes:
        raise WeightsError(f"{path} was cut off while it was read")
    return data
