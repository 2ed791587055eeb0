"""Read what an mp4 or mov claims about itself straight from its boxes, before a demuxer believes it.

A demuxer allocates one index entry a claimed sample, so that a 1-kB file claiming 10^9 frames costs gigabytes
as soon as it is opened. This walk visits every box that a demuxer would descend into, reads only the counts
and sizes, and refuses the file when they are over the limits or cannot be held by so few bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from homereel.core.errors import UnreadableMedia
from homereel.media.limits import Limits
from homereel.media.local_file import shown

_CONTAINERS = frozenset(
    {
        b"moov",
        b"trak",
        b"mdia",
        b"minf",
        b"stbl",
        b"mvex",
        b"moof",
        b"traf",
        b"edts",
        b"udta",
        b"ilst",
        b"wide",
    }
)
# Boxes that hold further boxes behind fields of their own; sample tables have no business inside them.
_OPAQUE = frozenset({b"stsd", b"dinf", b"wave", b"tref", b"sinf", b"schi", b"gmhd", b"iprp", b"ipco", b"iref"})
_TABLE_NAMES = re.compile(rb"stsz|stz2|stts|ctts|stsc|stco|co64|stss|trun|cmov|moov|trak|moof")
_CONTENT = frozenset({b"mdat", b"moov", b"moof"})
_MAX_BOXES = 200_000
_MAX_DEPTH = 16
_MAX_INDEX_BYTES = 256 * 2**20
_MAX_SAMPLES = 2**25


@dataclass
class Claims:
    """What was found: the largest frame, the most frames of a video track, all samples of all tracks, and whether
    the file ends before its content does.
    """

    num_video_frames: int = 0
    num_samples: int = 0
    max_width: int = 0
    max_height: int = 0
    seconds: float = 0.0
    num_boxes: int = 0
    is_cut_short: bool = False
    handlers: list[bytes] = field(default_factory=list)  # one a track, the latest last


def check_boxes(file: BinaryIO, *, path: str | Path, limits: Limits) -> Claims:
    """Walk the boxes of an open file and return its claims. Raises UnreadableMedia when one is over its
    limit.
    """
    size_bytes = file.seek(0, 2)
    claims = Claims()
    try:
        for name, start, end in _boxes(file, 0, size_bytes, claims=claims):
            if name not in (b"mdat", b"free", b"skip"):
                if end - start > _MAX_INDEX_BYTES:
                    raise _Nonsense(f"an index of {end - start:,} bytes (limit {_MAX_INDEX_BYTES:,})")
                _visit(file, name, start, end, claims=claims, depth=0)
        _judge(claims, size_bytes=size_bytes, limits=limits)
    except _Nonsense as error:
        raise UnreadableMedia(f"{shown(path)} claims {error}; it is damaged or hostile and is not opened") from None
    finally:
        file.seek(0)
    return claims


class _Nonsense(Exception):
    """A claim over its limit; the text names it."""


def _boxes(file: BinaryIO, start: int, end: int, *, claims: Claims) -> Iterator[tuple[bytes, int, int]]:
    """(name, start of the payload, end) of each box between two offsets; a box that overruns is cut, as
    demuxers do.
    """
    position = start
    while end - position >= 8:
        file.seek(position)
        header = file.read(16)
        size, name, payload = int.from_bytes(header[:4], "big"), header[4:8], position + 8
        if size == 1 and end - position >= 16:
            size, payload = int.from_bytes(header[8:16], "big"), position + 16
        elif size == 0:
            size = end - position
        if size < payload - position:
            return
        claims.num_boxes += 1
        if claims.num_boxes > _MAX_BOXES:
            raise _Nonsense(f"more than {_MAX_BOXES:,} boxes")
        stop = min(position + size, end)
        claims.is_cut_short |= position + size > end and name in _CONTENT
        yield name, payload, stop
        position = stop


def _visit(file: BinaryIO, name: bytes, start: int, end: int, *, claims: Claims, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise _Nonsense(f"boxes nested more than {_MAX_DEPTH} deep")
    if name == b"trak":
        claims.handlers.append(b"")
    if name == b"cmov":
        raise _Nonsense("a compressed index")
    if name in _OPAQUE:
        _check_opaque(_read(file, start, end, end - start), claims=claims, is_stsd=name == b"stsd")
    elif name == b"meta":  # with or without four bytes of version in front: look at it both ways
        for skip in (0, 4):
            _visit_children(file, start + skip, end, claims=claims, depth=depth)
    elif name in _CONTAINERS:
        _visit_children(file, start, end, claims=claims, depth=depth)
    else:
        _note_leaf(name, _read(file, start, end, 64), claims=claims)
        if name in (b"stts", b"ctts"):
            _check_runs(_read(file, start, end, end - start))


def _visit_children(file: BinaryIO, start: int, end: int, *, claims: Claims, depth: int) -> None:
    for child, child_start, child_end in _boxes(file, start, end, claims=claims):
        _visit(file, child, child_start, child_end, claims=claims, depth=depth + 1)


def _read(file: BinaryIO, start: int, end: int, num_bytes: int) -> bytes:
    file.seek(start)
    return file.read(min(num_bytes, end - start))


def _note_leaf(name: bytes, body: bytes, *, claims: Claims) -> None:
    if name == b"hdlr" and claims.handlers and not claims.handlers[-1]:
        claims.handlers[-1] = body[8:12]
    elif name in (b"stsz", b"stz2"):
        _note_samples(_u32(body, 8), claims=claims)
    elif name == b"trun":
        claims.num_samples += _u32(body, 4)
    elif name in (b"mvhd", b"mdhd"):
        long = body[:1] == b"\1"
        scale = _u32(body, 20 if long else 12)
        duration = int.from_bytes(body[24:32], "big") if long else _u32(body, 16)
        is_unknown = duration == (2**64 - 1 if long else 2**32 - 1)
        claims.seconds = max(claims.seconds, duration / scale if scale and not is_unknown else 0.0)


def _note_samples(count: int, *, claims: Claims) -> None:
    claims.num_samples += count
    if not claims.handlers or claims.handlers[-1] in (b"", b"vide"):
        claims.num_video_frames = max(claims.num_video_frames, count)


def _check_runs(body: bytes) -> None:
    """Sum the run lengths of a time table: (count, value) pairs after the version and the number of pairs."""
    num_pairs = min(_u32(body, 4), (len(body) - 8) // 8)
    total = sum(_u32(body, 8 + 8 * i) for i in range(max(num_pairs, 0)))
    if total > _MAX_SAMPLES:
        raise _Nonsense(f"{total:,} time steps (limit {_MAX_SAMPLES:,})")


def _check_opaque(body: bytes, *, claims: Claims, is_stsd: bool) -> None:
    found = _TABLE_NAMES.search(body)
    if found:
        raise _Nonsense(f"a box {found[0].decode('ascii')!r} where none may be")
    if not is_stsd or not claims.handlers or claims.handlers[-1] not in (b"", b"vide"):
        return
    position = 8
    while position + 36 <= len(body):
        claims.max_width = max(claims.max_width, int.from_bytes(body[position + 32 : position + 34], "big"))
        claims.max_height = max(claims.max_height, int.from_bytes(body[position + 34 : position + 36], "big"))
        position += max(_u32(body, position), 16)


def _judge(claims: Claims, *, size_bytes: int, limits: Limits) -> None:
    if claims.max_width * claims.max_height > limits.max_pixels:
        raise _Nonsense(f"frames of {claims.max_width}x{claims.max_height} pixels (limit {limits.max_pixels:,} pixels)")
    if claims.num_video_frames > limits.max_frames:
        raise _Nonsense(f"{claims.num_video_frames:,} frames (limit {limits.max_frames:,})")
    if claims.num_samples > min(size_bytes, _MAX_SAMPLES):
        raise _Nonsense(f"{claims.num_samples:,} samples in a file of {size_bytes:,} bytes")
    if claims.seconds > limits.max_seconds:
        raise _Nonsense(f"{claims.seconds:,.0f} seconds (limit {limits.max_seconds:,.0f})")


def _u32(body: bytes, offset: int) -> int:
    return int.from_bytes(body[offset : offset + 4], "big")
