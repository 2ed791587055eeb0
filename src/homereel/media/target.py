"""Decide from a target's name what is to be written there, and refuse it before the work starts if it
cannot be.

`a.mp4`, `a.gif`, `a.webp` are clips, `a.png` is a contact sheet, `a_%04d.png` and a folder (`a/`, or one that
exists) are PNG frames.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from homereel.core.errors import UnwritableTarget
from homereel.media.local_file import is_folder, shown
from homereel.media.replace import temporary_path

TargetKind = Literal["mp4", "gif", "webp", "sheet", "frames"]

_BY_SUFFIX: dict[str, TargetKind] = {".mp4": "mp4", ".gif": "gif", ".webp": "webp", ".png": "sheet"}
_ALLOWED = ".mp4, .gif, .webp, .png (a contact sheet), name_%04d.png or a folder ending in / (PNG frames)"
_COUNTER = re.compile(r"%(?:0([1-9]))?d")
_DEFAULT_PATTERN = "frame_%04d.png"
_MIN_FREE_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Target:
    """What a name means: a file of some kind, or frames named by `pattern` in the folder `path`."""

    kind: TargetKind
    path: Path
    pattern: str = ""

    @property
    def folder(self) -> Path:
        """The folder that must exist already and that temporary files go to."""
        return self.path if self.kind == "frames" and is_folder(self.path) else self.path.parent


def check_target(target: str | Path, *, needed_bytes: int = _MIN_FREE_BYTES) -> None:
    """Raise UnwritableTarget, before any work, if `target` cannot be written.

    Checks the suffix, the folder, permissions (by making and removing an empty file), names that are taken by
    a folder or by PNG frames of an earlier run, and that `needed_bytes` are free on its disk.
    """
    place = parse_target(target)
    folder = place.folder
    if not is_folder(folder):
        raise UnwritableTarget(f"there is no folder {shown(folder)} for {shown(place.path)}; make it first")
    _check_name(place)
    _try_to_write(folder, target=place.path)
    check_free_bytes(folder, needed_bytes=needed_bytes)


def parse_target(target: str | Path) -> Target:
    """What the name of a target asks for. Raises UnwritableTarget for one without a meaning."""
    text = os.fspath(target)
    if not text or "\0" in text:
        raise UnwritableTarget(f"{shown(text) or 'an empty name'} cannot be a file; use a name ending in {_ALLOWED}")
    path = Path(text)
    if text.endswith(("/", os.sep)) or is_folder(path):
        return Target("frames", path, _DEFAULT_PATTERN)
    kind = _BY_SUFFIX.get(path.suffix.lower())
    if kind is None:
        what = f"ends in {path.suffix!r}" if path.suffix else "has no ending"
        raise UnwritableTarget(f"{shown(path)} {what}, which says no format; use a name ending in {_ALLOWED}")
    if kind == "sheet" and len(_COUNTER.findall(path.name)) == 1:
        return Target("frames", path.parent, path.name)
    return Target(kind, path)


def sidecar_path(path: str | Path) -> Path:
    """Where the sidecar of a clip stands: its whole name and `.json`."""
    return Path(path).with_name(Path(path).name + ".json")


def frame_name(pattern: str, index: int) -> str:
    """The name of one frame: `%04d` replaced, every other character as it is."""
    return _COUNTER.sub(lambda found: str(index).zfill(int(found[1] or 1)), pattern)


def frame_names(pattern: str) -> re.Pattern[str]:
    """Matches the names that `frame_name` gives for this pattern; the group is the number."""
    counter = _COUNTER.search(pattern)
    if counter is None:
        raise ValueError(f"no counter in {pattern!r}")
    return re.compile(re.escape(pattern[: counter.start()]) + r"([0-9]{1,9})" + re.escape(pattern[counter.end() :]))


def check_free_bytes(folder: Path, *, needed_bytes: int) -> None:
    """Raise UnwritableTarget if the disk of `folder` has less room than that."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise UnwritableTarget(
            f"the disk of {shown(folder)} has {free_bytes:,} bytes free, and about {needed_bytes:,} are "
            "needed; "
            "free some room or choose another disk"
        )


def _check_name(place: Target) -> None:
    if place.kind == "frames":
        if os.path.lexists(place.path) and not is_folder(place.path):
            raise UnwritableTarget(
                f"{shown(place.path)} is a file, so it cannot be a folder of frames; choose another name"
            )
        taken = _first_taken(place)
        if taken:
            raise UnwritableTarget(
                f"{shown(place.path)} holds frames already ({shown(taken)}); "
                "choose a new folder or pattern, or remove them"
            )
    elif os.path.lexists(place.path) and not place.path.is_file():
        raise UnwritableTarget(f"{shown(place.path)} exists and is not a regular file; choose another name")
    elif place.path.name.startswith(".homereel-"):
        raise UnwritableTarget(f"{shown(place.path)} is a name kept for temporary files; choose another name")


def _first_taken(place: Target) -> str | None:
    """The first file in the folder that has a name of the pattern: frames of two runs must not mix."""
    if not is_folder(place.path):
        return None
    names = frame_names(place.pattern)
    return min((path.name for path in place.path.iterdir() if names.fullmatch(path.name)), default=None)


def _try_to_write(folder: Path, *, target: Path) -> None:
    """Make and remove an empty file: the only test that also knows read-only disks, quotas and foreign
    systems.
    """
    name_bytes = len(os.fsencode(target.name))
    try:
        if name_bytes > os.pathconf(folder, "PC_NAME_MAX"):
            raise UnwritableTarget(f"the name {shown(target.name)} has {name_bytes} bytes; give a shorter one")
    except (AttributeError, OSError):
        pass  # not every system tells its limit
    probe = temporary_path(folder)
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as error:
        hint = "free some room" if error.errno == errno.ENOSPC else "check its permissions or choose another folder"
        raise UnwritableTarget(f"nothing can be written to {shown(folder)}: {error.strerror}; {hint}") from None
    probe.unlink()
