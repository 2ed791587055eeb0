"""The table of a zip file as torch.save writes it: records that are stored as they are, one after the other.

Read by ourselves, because every size in it is checked before memory is taken for it. What is compressed, encrypted,
overlapping or outside of the file is refused, so what a record claims to be is what it takes on disk.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from homereel.core.errors import WeightsError

MAX_TABLE_BYTES = 16 * 1024**2
_END = struct.Struct("<4sHHHHIIH")  # the end of the file: disks, entries, size and place of the table
_LONG_PLACE = struct.Struct("<4sIQI")
_LONG_END = struct.Struct("<4sQHHIIQQQQ")
_ENTRY = struct.Struct("<4sHHHHHHIIIHHHHHII")
_RECORD = struct.Struct("<4sHHHHHIIIHH")
_TOO_LARGE = 0xFFFFFFFF  # the number stands in an extra field


@dataclass(frozen=True)
class Record:
    """Where the bytes of one record lie in the file."""

    start: int
    num_bytes: int


@dataclass(frozen=True)
class _Entry:
    """A line of the table; `place` is where the record's own header lies."""

    name: str
    place: int
    num_bytes: int
    compressed: bool


def read_records(path: Path) -> dict[str, Record]:
    """All records by name. Raises WeightsError if the file cannot be read, was cut off, or is no such archive."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            table = _table(file, path, size=size)
            records = {}
            for entry in _entries(table, path):
                if entry.compressed:
                    raise WeightsError(
                        f"{path} holds {_shown(entry.name)} compressed, as torch.save never does; it is not opened"
                    )
                if entry.name in records:
                    raise _damaged(path)
                records[entry.name] = _record(file, entry, path, size=size)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from None
    _check_apart(records, path)
    return records


def _table(file: IO[bytes], path: Path, *, size: int) -> bytes:
    tail = min(size, _END.size + _LONG_PLACE.size + 65535)
    file.seek(size - tail)
    end = file.read(tail)
    at = end.rfind(b"PK\x05\x06")
    if at < 0 or len(end) - at < _END.size:
        raise WeightsError(f"{path} has no table of contents: it was cut off; fetch it again")
    _, _, _, _, _, num_bytes, start, _ = _END.unpack_from(end, at)
    if at >= _LONG_PLACE.size and end[at - _LONG_PLACE.size :].startswith(b"PK\x06\x07"):
        place = _LONG_PLACE.unpack_from(end, at - _LONG_PLACE.size)[2]
        if place + _LONG_END.size > size:
            raise _damaged(path)
        file.seek(place)
        signature, *_, num_bytes, start = _LONG_END.unpack(file.read(_LONG_END.size))
        if signature != b"PK\x06\x06":
            raise _damaged(path)
    if num_bytes > MAX_TABLE_BYTES:
        raise WeightsError(f"{path} has a table of contents of {num_bytes} bytes; at most {MAX_TABLE_BYTES} are read")
    if start + num_bytes > size:
        raise _damaged(path)
    file.seek(start)
    return file.read(num_bytes)


def _entries(table: bytes, path: Path) -> Iterator[_Entry]:
    at = 0
    while at + _ENTRY.size <= len(table) and table[at : at + 4] == b"PK\x01\x02":
        fields = _ENTRY.unpack_from(table, at)
        flags, method, packed, whole = fields[3], fields[4], fields[8], fields[9]
        name_bytes, extra_bytes, comment_bytes, place = fields[10], fields[11], fields[12], fields[16]
        at += _ENTRY.size
        name = table[at : at + name_bytes].decode("utf-8", "replace")
        extra = table[at + name_bytes : at + name_bytes + extra_bytes]
        at += name_bytes + extra_bytes + comment_bytes
        whole, packed, place = _long_numbers(extra, [whole, packed, place], path)
        yield _Entry(name, place, whole, compressed=method != 0 or whole != packed or bool(flags & 1))
    if at != len(table):
        raise _damaged(path)


def _long_numbers(extra: bytes, numbers: list[int], path: Path) -> list[int]:
    """Numbers that are too large for their fields stand in an extra one, in order."""
    if _TOO_LARGE not in numbers:
        return numbers
    at = 0
    while at + 4 <= len(extra):
        kind, num_bytes = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            long = iter(struct.unpack_from(f"<{min(num_bytes, len(extra) - at - 4) // 8}Q", extra, at + 4))
            found = [next(long, None) if number == _TOO_LARGE else number for number in numbers]
            if None in found:
                break
            return [number for number in found if number is not None]
        at += 4 + num_bytes
    raise _damaged(path)


def _record(file: IO[bytes], entry: _Entry, path: Path, *, size: int) -> Record:
    """Where its bytes begin, which only the record's own header says."""
    if entry.place + _RECORD.size > size:
        raise _damaged(path)
    file.seek(entry.place)
    fields = _RECORD.unpack(file.read(_RECORD.size))
    name_bytes, extra_bytes = fields[9], fields[10]
    start = entry.place + _RECORD.size + name_bytes + extra_bytes
    same_name = file.read(name_bytes).decode("utf-8", "replace") == entry.name
    if fields[0] != b"PK\x03\x04" or fields[3] != 0 or not same_name or start + entry.num_bytes > size:
        raise _damaged(path)
    return Record(start, entry.num_bytes)


def _check_apart(records: dict[str, Record], path: Path) -> None:
    end = 0
    for record in sorted(records.values(), key=lambda record: (record.start, record.num_bytes)):
        if record.start < end:
            raise _damaged(path)
        end = record.start + record.num_bytes


def _damaged(path: Path) -> WeightsError:
    return WeightsError(f"{path} has a damaged table of contents; fetch it again")


def _shown(name: str) -> str:
    return ascii(name[:60])
