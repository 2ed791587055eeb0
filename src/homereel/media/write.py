"""Write a clip: the one door from frames to a file. The target's name picks the format."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homereel.core.errors import InvalidRequest, UnwritableTarget
from homereel.media.encode_aac import bit_rate
from homereel.media.encode_animation import encode_gif, encode_webp
from homereel.media.encode_mp4 import encode_mp4
from homereel.media.encode_png import encode_sheet, write_frames
from homereel.media.frame_source import Frames, frames_bytes, frames_count, take_frames
from homereel.media.private import strip_private
from homereel.media.record_text import LateTags, Tags, make_tags, record_json
from homereel.media.replace import replacing_file
from homereel.media.sound_source import Sounding
from homereel.media.target import (
    Target,
    TargetKind,
    check_free_bytes,
    check_target,
    parse_target,
    sidecar_path,
)

# Bytes of the file for each byte of raw frames, when a clip is full of motion; quiet ones take far less.
_BYTES_PER_RAW: dict[TargetKind, float] = {"mp4": 0.1, "gif": 0.35, "webp": 0.15, "sheet": 0.5, "frames": 0.8}
_OVERHEAD_BYTES = 2**20


def write_clip(
    frames: Frames,
    target: str | Path,
    *,
    fps: float,
    record: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
    quality: int = 80,
    private: bool = False,
    sound: Sounding | None = None,
) -> Path:
    """Write `frames` (uint8, (T, H, W, 3) or one (H, W, 3) after another) to `target`; returns the file or
    folder.

    By the target's name: .mp4, .gif, .webp, .png (a contact sheet), `name_%04d.png` or a folder (PNG frames).
    Frames may come from a generator (as a FrameStream, if their number and size are known: then the room on the
    disk is checked first): an mp4 and PNG frames are written while it works. `record` is put into the file; if
    only the last frame decides it, it may be a function, which is asked then. With `private` its prompts, paths
    and machine are left out first. `quality` is 0 to 100. The file appears whole or not at all. Raises
    InvalidRequest (fps, quality), MediaError (frames), UnwritableTarget; whatever a generator raises comes through
    unchanged.

    `sound` goes into an mp4 as AAC, 192 kb/s for two channels at quality 80. It starts with the first frame; what
    is longer than the frames is cut off, what is shorter is followed by silence, what is louder than 1 is limited.
    A SoundStream is read while the frames come, so that neither is held whole. Other formats have no sound and are
    written without: `carries_sound` tells beforehand.
    """
    _check_numbers(fps=fps, quality=quality)
    check_target(target)
    place = parse_target(target)
    sound = sound if place.kind == "mp4" else None
    sound_bytes = 0 if sound is None else bit_rate(sound, quality=quality) / 8 * frames_count(frames) / fps
    needed_bytes = _check_room(frames, place, sound_bytes=round(sound_bytes))
    tags = _tags(record, private=private)
    checked = take_frames(frames)
    if place.kind == "frames":
        return write_frames(checked, target=place, tags=tags, needed_bytes=needed_bytes)
    with replacing_file(place.path, needed_bytes=needed_bytes) as path:
        if place.kind == "mp4":
            encode_mp4(checked, path=path, fps=fps, tags=tags, quality=quality, sound=sound)
        else:
            _encode(checked, place.kind, path=path, fps=fps, tags=tags, quality=quality)
    return place.path


def carries_sound(target: str | Path) -> bool:
    """Whether a clip that is written to this name keeps its sound; only an mp4 does. Raises UnwritableTarget for a
    name that says no format.
    """
    return parse_target(target).kind == "mp4"


def write_sidecar(path: str | Path, record: Mapping[str, Any], *, private: bool = False) -> Path:
    """Write the record beside a clip as `clip.mp4.json`, for places that strip a file's tags. Returns its
    path.
    """
    clip = Path(path)
    sidecar = sidecar_path(clip)
    if not sidecar.parent.is_dir():
        raise UnwritableTarget(f"there is no folder for {sidecar.name!r}; write the clip first")
    text = record_json(strip_private(record) if private else record, indent=2)
    with replacing_file(sidecar) as temporary:
        temporary.write_text(text + "\n", encoding="ascii")
    return sidecar


def _encode(
    frames: Iterator[NDArray[np.uint8]],
    kind: TargetKind,
    *,
    path: Path,
    fps: float,
    tags: Tags | LateTags | None,
    quality: int,
) -> None:
    if kind == "gif":
        encode_gif(frames, path=path, fps=fps, tags=tags, quality=quality)
    elif kind == "webp":
        encode_webp(frames, path=path, fps=fps, tags=tags, quality=quality)
    else:
        encode_sheet(frames, path=path, tags=tags)


def _check_numbers(*, fps: float, quality: int) -> None:
    if not math.isfinite(fps) or not 0.1 <= fps <= 240:
        raise InvalidRequest(f"fps is {fps}; 0.1 to 240 frames a second can be written; try 16 or 24", field="fps")
    if not 0 <= quality <= 100:
        raise InvalidRequest(f"quality is {quality}; it goes from 0 to 100; try 80", field="quality")


def _check_room(frames: Frames, place: Target, *, sound_bytes: int) -> int | None:
    """The bytes that the file may take, if that is known; refuses at once when the disk has less."""
    raw_bytes = frames_bytes(frames)
    if raw_bytes is None:
        return None
    needed_bytes = round(raw_bytes * _BYTES_PER_RAW[place.kind]) + sound_bytes + _OVERHEAD_BYTES
    check_free_bytes(place.folder, needed_bytes=needed_bytes)
    return needed_bytes


def _tags(
    record: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None, *, private: bool
) -> Tags | LateTags | None:
    """The texts of the record, now or when it is known; too long a record that is known is refused at once."""

    def make(known: Mapping[str, Any]) -> Tags:
        return make_tags(strip_private(known) if private else known)

    if record is None:
        return None
    return make(record) if isinstance(record, Mapping) else lambda: make(record())
