"""Decode the picture of mp4, mov, mkv and webm with PyAV, by a decoder from a short list, watched frame by
frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from homereel.core.errors import UnreadableMedia
from homereel.media.budget import DecodeBudget
from homereel.media.limits import Limits
from homereel.media.local_file import shown
from homereel.media.open_container import open_container
from homereel.media.retime import Shot
from homereel.media.sniff import Kind
from homereel.media.yuv import to_rgb

VIDEO_DECODERS = "h264,hevc,vp8,libvpx,vp9,libvpx-vp9,av1,libdav1d,mpeg4,prores,mjpeg"


@contextmanager
def open_video(file: BinaryIO, *, kind: Kind, path: str | Path, limits: Limits) -> Iterator[Any]:
    """The PyAV container of an open file, its claims checked. Any fault inside becomes UnreadableMedia."""
    options = {"codec_whitelist": VIDEO_DECODERS, **size_option(limits)}
    with open_container(file, kind=kind, path=path, limits=limits, decoder_options=options) as container:
        _check_stream(container, path=path, limits=limits)
        container.streams.video[0].codec_context.options = options
        yield container


def size_option(limits: Limits) -> dict[str, str]:
    """Decoders pad frames to their block size, hence the room; the exact limit is checked on every frame."""
    return {"max_pixels": str(limits.max_pixels * 5 // 4 + 2**18)}


def iterate_shots(container: Any, *, path: str | Path, limits: Limits) -> Iterator[Shot]:
    """Each frame of the first video track and when it is shown, counted from the first one; as (H, W, 3), upright.

    Phones write frames of uneven length, so that what the frames themselves say counts.
    """
    budget = DecodeBudget(limits, path=path)
    frame_seconds = 1 / frame_rate(container, path=path)
    first: float | None = None
    stop = 0.0
    for frame in container.decode(video=0):
        budget.decode(width=frame.width, height=frame.height)
        time = stop if frame.time is None else float(frame.time)
        first = time if first is None else first
        start = max(time - first, 0.0)
        stop = start + frame_seconds
        yield Shot(start, stop, partial(_upright, frame))


def _upright(frame: Any) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.rot90(to_rgb(frame), round(frame.rotation / 90) % 4))


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
    if context is None or context.name not in VIDEO_DECODERS.split(","):
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
