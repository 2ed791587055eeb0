"""Write PNG: one contact sheet, or every frame as a file of its own; each carries the record in text
chunks.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from homereel.media.contact_sheet import contact_sheet
from homereel.media.record_text import LateTags, Tags, known_tags
from homereel.media.replace import flush_file, flush_folder, temporary_folder, writing
from homereel.media.target import Target, frame_name
from homereel.media.xmp import make_xmp

_XMP_CHUNK = "XML:com.adobe.xmp"
_FIRST_CHUNK_BYTES = 33  # with the signature before it


def encode_sheet(frames: Iterable[NDArray[np.uint8]], *, path: Path, tags: Tags | LateTags | None) -> None:
    """Fill `path` with eight frames of the clip in order, and the prompt below."""
    clip = np.stack(list(frames))
    known = known_tags(tags)
    wide = clip.shape[2] > 1.25 * clip.shape[1]
    sheet = contact_sheet([clip], captions=[known.prompt if known else ""], frames_per_row=4 if wide else 8)
    write_png(sheet, path=path)
    _add_texts(path, known)


def write_png(picture_HWC: NDArray[np.uint8], *, path: Path) -> None:
    """Fill `path` with one picture."""
    from PIL import Image

    with path.open("wb") as file:
        Image.fromarray(picture_HWC).save(file, "PNG", compress_level=6)


def write_frames(
    frames: Iterable[NDArray[np.uint8]], *, target: Target, tags: Tags | LateTags | None, needed_bytes: int | None
) -> Path:
    """Write every frame as it comes into a hidden folder; show them all at the end, or none. Returns the
    folder.
    """
    is_new = not target.path.exists()
    with (
        writing(target.path, needed_bytes=needed_bytes),
        temporary_folder(target.path.parent if is_new else target.path) as hidden,
    ):
        names = []
        for index, frame in enumerate(frames):
            names.append(frame_name(target.pattern, index))
            write_png(frame, path=hidden / names[-1])
        known = known_tags(tags)
        for name in names:
            _add_texts(hidden / name, known)
            flush_file(hidden / name)
        if is_new:
            hidden.replace(target.path)
        else:
            _move_all(names, source=hidden, target=target.path)
        flush_folder(target.path)
    return target.path


def _add_texts(path: Path, tags: Tags | None) -> None:
    """Put the texts into a PNG behind its first chunk, which tells its size."""
    if tags is None:
        return
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for name, text in tags.as_dict().items():
        info.add_text(name, text)
    info.add_itxt(_XMP_CHUNK, make_xmp(tags))
    content = path.read_bytes()
    texts = [struct.pack(">I", len(data)) + kind + data + _checksum(kind + data) for kind, data, *_ in info.chunks]
    path.write_bytes(b"".join([content[:_FIRST_CHUNK_BYTES], *texts, content[_FIRST_CHUNK_BYTES:]]))


def _checksum(chunk: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(chunk))


def _move_all(names: list[str], *, source: Path, target: Path) -> None:
    """Move the frames into an existing folder; take back those already moved if one fails."""
    moved: list[Path] = []
    try:
        for name in names:
            (source / name).replace(target / name)
            moved.append(target / name)
    except BaseException:
        for path in moved:
            with suppress(OSError):
                path.unlink()
        raise
