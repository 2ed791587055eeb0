"""Decode mp4, mov, mkv and webm with PyAV: the demuxer forced by the sniffed kind, the decoders from a
short list.

The library gets an open file and no name, may follow no reference out of it, and is watched frame by frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from homereel.core.errors import UnreadableMedia
from homereel.media.budget import DecodeBudget
from homereel.media.limits import Limits
from homereel.media.local_file import shown
from homereel.media.mp4_boxes import check_boxes
from homereel.media.sniff import Kind
from homereel.media.yuv import to_rgb

_DEMUXERS: dict[Kind, str] = {"mp4": "mov", "mov": "mov", "matroska": "matroska", "webm": "matroska"}
_DECODERS = "h264,hevc,vp8,libvpx,vp9,libvpx-vp9,av1,libdav1d,mpeg4,prores,mjpeg"


@contextmanager
def open_video(file: BinaryIO, *, kind: Kind, path: str | Path, limits: Limits) -> Iterator[Any]:
    """The PyAV container of an open file, its claims checked. Any fault inside becomes UnreadableMedia."""
    import av

    if _DEMUXERS[kind] == "mov":
        check_boxes(file, path=path, limits=limits)
    # Decoders pad frames to their block size, hence the room; the exact limit is checked on every frame.
    decoder_options = {"max_pixels": str(limits.max_pixels * 5 // 4 + 2**18), "codec_whitelist": _DECODERS}
    try:
        with av.open(
            file,
            mode="r",
            format=_DEMUXERS[kind],
            options=decoder_options,
            container_options={"protocol_whitelist": "none", "format_whitelist": _DEMUXERS[kind]},
            metadata_errors="replace",
        ) as container:
            _check_stream(container, path=path, limits=limits)
            container.streams.video[0].codec_context.options = decoder_options
            yield container
    except (av.FFmpegError, ValueError, OverflowError, MemoryError, EOFError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:120]
        raise UnreadableMedia(f"{shown(path)} cannot be decoded ({reason}); is it damaged or cut short?") from None


def iterate_frames(container: Any, *, path: str | Path, limits: Limits) -> Iterator[NDArray[np.uint8]]:
    """Each frame of the first video track as (H, W, 3), upright, counted against the limits."""
    budget = DecodeBudget(limits, path=path)
    for frame in container.decode(video=0):
        budget.spend(width=frame.width, height=frame.height)
        turns = round(frame.rotation / 90) % 4
        yield np.ascontiguousarray(np.rot90(to_rgb(frame), turns))


def count_frames(container: Any, *, path: str | Path, limits: Limits) -> int:
    """The number of frames: as the container says it, or by counting packets, which decodes nothing."""
    stream = container.streams.video[0]
    if stream.frames > 0:
        return int(stream.frames)
    count = 0
    for packet in container.demux(stream):
        count += packet.size > 0
        if count > limits.max_frames:
            raise UnreadableMedia(
                f"{shown(path)} has more than {limits.max_frames:,} frames; cut it into shorter clips"
            )
    return count


def frame_rate(container: Any, *, path: str | Path) -> float:
    """Frames a second of the first video track."""
    stream = container.streams.video[0]
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    if not rate or not 0 < float(rate) <= 1000:
        raise UnreadableMedia(f"{shown(path)} does not say how many frames a second it has (1 to 1000 are possible)")
    return float(rate)


def _check_stream(container: Any, *, path: str | Path, limits: Limits) -> None:
    if not container.streams.video:
        raise UnreadableMedia(f"{shown(path)} has no video track; give a clip with a picture")
    stream = container.streams.video[0]
    context = stream.codec_context
    if context is None or context.name not in _DECODERS.split(","):
        name = getattr(context, "name", "unknown")
        raise UnreadableMedia(
            f"{shown(path)} is coded as {name!r}; H.264, H.265, VP8, VP9, AV1, ProRes and MJPEG are read"
        )
    if context.width * context.height > limits.max_pixels:
        raise UnreadableMedia(
            f"{shown(path)} claims frames of {context.width}x{context.height} pixels (limit "
            f"{limits.max_pixels:,} pixels)"
        )
    if stream.frames > limits.max_frames:
        raise UnreadableMedia(f"{shown(path)} claims {stream.frames:,} frames (limit {limits.max_frames:,})")
    seconds = (container.duration or 0) / 1_000_000
    if seconds > limits.max_seconds:
        raise UnreadableMedia(f"{shown(path)} claims {seconds:,.0f} seconds (limit {limits.max_seconds:,.0f})")
