"""Say what a file is, without decoding it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from homereel.media.animation_timing import Timing, read_timing
from homereel.media.clip_source import FOLDER_FPS
from homereel.media.decode_image import open_image
from homereel.media.decode_sound import SoundTrack, sound_track
from homereel.media.decode_video import count_frames, frame_rate, open_video
from homereel.media.frame_folder import list_frames
from homereel.media.limits import MAX_IMAGE_PIXELS, PROBE_LIMITS
from homereel.media.local_file import open_local
from homereel.media.read_record import read_sidecar, record_fps, record_in_image, record_in_tags
from homereel.media.sniff import ANIMATED_KINDS, VIDEO_KINDS, Kind, sniff


@dataclass(frozen=True)
class Probe:
    """What a file says of itself; the size is that of the coded picture, before any turning. `fps` and
    `seconds` are None for a single picture, `sound` is None where there is no sound track.
    """

    kind: str
    width: int
    height: int
    num_frames: int
    fps: float | None
    seconds: float | None
    codec: str
    size_bytes: int
    record: dict[str, Any] | None
    sound: SoundTrack | None = None


def probe(path: str | Path) -> Probe:
    """Look at a clip, a picture, or PNG frames (a folder or a pattern; kind "frames"). Raises
    UnreadableMedia.
    """
    pictures = list_frames(path, limits=PROBE_LIMITS)
    if pictures is not None:
        return _probe_frames(pictures)
    with open_local(path, max_bytes=PROBE_LIMITS.max_file_bytes) as file:
        size_bytes = Path(path).stat().st_size
        kind = sniff(file, path=path)
        look = _probe_video if kind in VIDEO_KINDS else _probe_image
        return look(file, kind=kind, path=path, size_bytes=size_bytes)


def _probe_video(file: BinaryIO, *, kind: Kind, path: str | Path, size_bytes: int) -> Probe:
    with open_video(file, kind=kind, path=path, limits=PROBE_LIMITS) as container:
        context = container.streams.video[0].codec_context
        fps = frame_rate(container, path=path)
        num_frames = count_frames(container, path=path, limits=PROBE_LIMITS)
        return Probe(
            kind=kind,
            width=context.width,
            height=context.height,
            num_frames=num_frames,
            fps=fps,
            seconds=num_frames / fps,
            codec=str(context.codec.name),
            size_bytes=size_bytes,
            record=record_in_tags(container.metadata) or read_sidecar(path),
            sound=sound_track(container),
        )


def _probe_image(file: BinaryIO, *, kind: Kind, path: str | Path, size_bytes: int) -> Probe:
    with open_image(file, kind=kind, path=path, max_pixels=MAX_IMAGE_PIXELS) as image:
        record = record_in_image(image, kind=kind)
        timing = _timing(file, kind=kind, path=path, fps=record_fps(record))
        return Probe(
            kind=kind,
            width=image.width,
            height=image.height,
            num_frames=timing.num_frames,
            fps=timing.fps,
            seconds=timing.num_frames / timing.fps if timing.fps else None,
            codec=kind,
            size_bytes=size_bytes,
            record=record or read_sidecar(path),
        )


def _timing(file: BinaryIO, *, kind: Kind, path: str | Path, fps: float | None) -> Timing:
    if kind in ANIMATED_KINDS:
        return read_timing(file, kind=kind, path=path, limits=PROBE_LIMITS, fps=fps)
    return Timing(repeats=(1,), fps=None)


def _probe_frames(pictures: list[Path]) -> Probe:
    first = probe(pictures[0])
    fps = record_fps(first.record) or FOLDER_FPS
    return replace(
        first,
        kind="frames",
        num_frames=len(pictures),
        fps=fps,
        seconds=len(pictures) / fps,
        size_bytes=sum(picture.stat().st_size for picture in pictures),
    )
