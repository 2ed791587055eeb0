"""Find the PNG frames of a folder or a `name_%04d.png` pattern, in the order of their numbers."""

from __future__ import annotations

import os
from pathlib import Path

from homereel.core.errors import UnreadableMedia
from homereel.media.limits import Limits
from homereel.media.local_file import is_folder, shown
from homereel.media.target import frame_names, parse_target


def list_frames(path: str | Path, *, limits: Limits) -> list[Path] | None:
    """The files of the frames; None if `path` means a single file. Raises UnreadableMedia for a folder
    without any.
    """
    folder, names = Path(path), frame_names("frame_%04d.png")
    if not is_folder(folder):
        is_pattern = folder.suffix.lower() == ".png" and "\0" not in str(path) and not os.access(folder, os.F_OK)
        target = parse_target(path) if is_pattern else None
        if target is None or target.kind != "frames" or not is_folder(target.path):
            return None
        folder, names = target.path, frame_names(target.pattern)
    found: list[tuple[int, str]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            match = names.fullmatch(entry.name)
            if match:
                found.append((int(match[1]), entry.name))
            if len(found) > limits.max_frames:
                raise UnreadableMedia(
                    f"{shown(path)} has more than {limits.max_frames:,} frames; cut it into shorter clips"
                )
    if not found:
        raise UnreadableMedia(
            f"{shown(folder)} holds no frames named frame_0000.png and so on; give a pattern such as name_%04d.png"
        )
    return [folder / name for _, name in sorted(found)]
