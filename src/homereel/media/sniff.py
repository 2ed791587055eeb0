"""Tell what a file is from its first bytes alone; its name and suffix have no say.

The answer picks the one decoder that is allowed to see the file. Playlists (ffconcat, HLS), SVG, HTML and
everything unknown are refused here, before any decoder runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Literal

from homereel.core.errors import UnreadableMedia
from homereel.media.local_file import shown

Kind = Literal["mp4", "mov", "matroska", "webm", "gif", "webp", "png", "jpeg", "bmp"]

VIDEO_KINDS: frozenset[Kind] = frozenset({"mp4", "mov", "matroska", "webm"})
IMAGE_KINDS: frozenset[Kind] = frozenset({"gif", "webp", "png", "jpeg", "bmp"})
ANIMATED_KINDS: frozenset[Kind] = frozenset({"gif", "webp"})

ALLOWED = "MP4, MOV, MKV, WebM, GIF, WebP, PNG, JPEG and BMP"
_HEAD_BYTES = 4096
_QUICKTIME_OPENERS = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_MARKS: tuple[tuple[Kind, tuple[tuple[int, bytes], ...]], ...] = (  # offsets and the bytes that stand there
    ("gif", ((0, b"GIF87a"),)),
    ("gif", ((0, b"GIF89a"),)),
    ("webp", ((0, b"RIFF"), (8, b"WEBP"))),
    ("png", ((0, b"\x89PNG\r\n\x1a\n"),)),
    ("jpeg", ((0, b"\xff\xd8\xff"),)),
    ("bmp", ((0, b"BM"), (6, bytes(4)))),
)
_STILL_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1")


def sniff(file: BinaryIO, *, path: str | Path) -> Kind:
    """The kind of an open file; leaves it at its start. Raises UnreadableMedia for anything not on the
    list.
    """
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    kind = _kind_of(head)
    if kind is None:
        raise UnreadableMedia(f"{shown(path)} {_describe(head)}; homereel reads {ALLOWED}")
    return kind


def _kind_of(head: bytes) -> Kind | None:
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        return None if brand in _STILL_BRANDS else "mov" if brand == b"qt  " else "mp4"
    if head[4:8] in _QUICKTIME_OPENERS:
        return "mov"
    if head.startswith(b"\x1aE\xdf\xa3"):
        return "webm" if b"webm" in head[:64] else "matroska"
    return next((kind for kind, marks in _MARKS if all(head.startswith(mark, at) for at, mark in marks)), None)


def _describe(head: bytes) -> str:
    """What the refused file seems to be, for the message."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"ffconcat", b"#extm3u")):
        return "is a playlist that points at other files, not a clip; give the clip itself"
    if b"<svg" in text or text.startswith((b"<!doctype", b"<html", b"<?xml", b"<script")):
        return "is a page of SVG, HTML or XML, not a picture; export it as PNG first"
    if head[4:8] == b"ftyp":
        return "is a HEIC or AVIF picture; convert it to PNG or JPEG first"
    if head[:4] in (b"II*\0", b"MM\0*"):
        return "is a TIFF picture; convert it to PNG or JPEG first"
    return "is neither a picture nor a clip of a known format"
