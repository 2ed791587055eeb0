"""Read from the first bytes of an mkv or webm how long it says it is: demuxers take a cut file for a short one."""

from __future__ import annotations

from typing import BinaryIO

_EBML, _SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"


def is_cut_short(file: BinaryIO) -> bool:
    """Whether an open file ends before the segment that it announces. Files of live recordings announce none.
    Leaves it at its start.
    """
    size_bytes = file.seek(0, 2)
    file.seek(0)
    try:
        if file.read(4) != _EBML:
            return False
        head_bytes = _read_size(file)
        if head_bytes is None or head_bytes > size_bytes:
            return True
        file.seek(head_bytes, 1)
        if file.read(4) != _SEGMENT:
            return False
        segment_bytes = _read_size(file)
        return segment_bytes is not None and file.tell() + segment_bytes > size_bytes
    finally:
        file.seek(0)


def _read_size(file: BinaryIO) -> int | None:
    """A number of 1 to 8 bytes, the first of which says how many; None for "unknown", which is all ones."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    num_bytes = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(num_bytes - 1), "big") & (2 ** (7 * num_bytes) - 1)
    return None if value == 2 ** (7 * num_bytes) - 1 else value
