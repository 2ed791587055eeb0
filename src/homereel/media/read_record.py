"""Find the record that a clip carries, or that lies beside it, and hand it on only if it is sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

from homereel.core.errors import UnreadableMedia
from homereel.media.decode_image import open_image
from homereel.media.decode_video import open_video
from homereel.media.frame_folder import list_frames
from homereel.media.limits import MAX_IMAGE_PIXELS, MAX_RECORD_BYTES, PROBE_LIMITS
from homereel.media.local_file import open_local
from homereel.media.record_check import parse_record
from homereel.media.record_text import RECORD_TAG
from homereel.media.sniff import VIDEO_KINDS, Kind, sniff
from homereel.media.target import sidecar_path
from homereel.media.xmp import record_in_xmp


def read_record(path: str | Path) -> dict[str, Any] | None:
    """The record of a clip, as it was handed to the writer; None if it carries none, or only nonsense.

    Looks into the file's own tags first, then at the sidecar beside it (sites strip tags). `path` may be the
    sidecar itself, a folder of frames or a pattern. Everything is untrusted: at most 1 MiB, JSON only,
    bounded depth, checked types, control characters removed. Raises UnreadableMedia if there is no file or it
    is no media at all.
    """
    pictures = list_frames(path, limits=PROBE_LIMITS)
    file_path = Path(path) if pictures is None else pictures[0]
    with open_local(file_path, max_bytes=PROBE_LIMITS.max_file_bytes) as file:
        if file_path.suffix.lower() == ".json":
            return parse_record(file.read(MAX_RECORD_BYTES + 1))
        record = record_in_file(file, kind=sniff(file, path=file_path), path=file_path)
    return record or read_sidecar(path)


def record_in_file(file: BinaryIO, *, kind: Kind, path: str | Path) -> dict[str, Any] | None:
    """The record inside an open file."""
    if kind in VIDEO_KINDS:
        with open_video(file, kind=kind, path=path, limits=PROBE_LIMITS) as container:
            return record_in_tags(container.metadata)
    with open_image(file, kind=kind, path=path, max_pixels=MAX_IMAGE_PIXELS) as image:
        return record_in_image(image, kind=kind)


def record_in_tags(tags: dict[str, str]) -> dict[str, Any] | None:
    """The record among the tags of a container; some programs write the names of tags in capitals."""
    return next((parse_record(text) for name, text in tags.items() if name.lower() == RECORD_TAG), None)


def record_in_image(image: Any, *, kind: Kind) -> dict[str, Any] | None:
    """The record in a picture that is opened and not yet decoded."""
    if kind == "png":
        text = image.text.get(RECORD_TAG) if hasattr(image, "text") else None
        return parse_record(text)
    if kind == "gif":
        comment = image.info.get("comment") or b""
        lines = comment.splitlines() if isinstance(comment, bytes) else []
        return next((parse_record(line) for line in lines if line.startswith(b"{")), None)
    if kind == "webp":
        return parse_record(record_in_xmp(image.info.get("xmp")))
    return None


def read_sidecar(path: str | Path) -> dict[str, Any] | None:
    """The record in `clip.mp4.json` beside `clip.mp4`, if there is a sound one."""
    try:
        with open_local(sidecar_path(path), max_bytes=MAX_RECORD_BYTES) as file:
            return parse_record(file.read())
    except (UnreadableMedia, ValueError):
        return None


def record_fps(record: dict[str, Any] | None) -> float | None:
    """The frames a second that a sound record tells of, if they are in a sensible range."""
    resolved = (record or {}).get("homereel", {}).get("resolved")
    fps = resolved.get("fps") if isinstance(resolved, dict) else None
    return float(fps) if fps is not None and 0.1 <= fps <= 240 else None
