"""Open mp4, mov, mkv and webm with PyAV: the demuxer forced by the sniffed kind, the decoders from a short
list.

The library gets an open file and no name, and may follow no reference out of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from homereel.core.errors import UnreadableMedia
from homereel.media.limits import Limits
from homereel.media.local_file import shown
from homereel.media.matroska import is_cut_short
from homereel.media.mp4_boxes import check_boxes
from homereel.media.sniff import Kind

_DEMUXERS: dict[Kind, str] = {"mp4": "mov", "mov": "mov", "matroska": "matroska", "webm": "matroska"}


@contextmanager
def open_container(
    file: BinaryIO,
    *,
    kind: Kind,
    path: str | Path,
    limits: Limits,
    decoder_options: dict[str, str],
    must_be_whole: bool = False,
) -> Iterator[Any]:
    """The PyAV container of an open file, its length checked. Any fault inside becomes UnreadableMedia.

    With `must_be_whole`, a file that breaks off before the end it announces is refused, too.
    """
    import av

    is_mov = _DEMUXERS[kind] == "mov"
    is_cut = check_boxes(file, path=path, limits=limits).is_cut_short if is_mov else is_cut_short(file)
    if is_cut and must_be_whole:
        raise UnreadableMedia(f"{shown(path)} breaks off in the middle; was its download or export cut short?")
    try:
        with av.open(
            file,
            mode="r",
            format=_DEMUXERS[kind],
            options=decoder_options,
            container_options={"protocol_whitelist": "none", "format_whitelist": _DEMUXERS[kind]},
            metadata_errors="replace",
        ) as container:
            seconds = (container.duration or 0) / 1_000_000
            if seconds > limits.max_seconds:
                raise UnreadableMedia(f"{shown(path)} claims {seconds:,.0f} seconds (limit {limits.max_seconds:,.0f})")
            yield container
    except (av.FFmpegError, ValueError, OverflowError, MemoryError, EOFError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:120]
        raise UnreadableMedia(f"{shown(path)} cannot be decoded ({reason}); is it damaged or cut short?") from None
