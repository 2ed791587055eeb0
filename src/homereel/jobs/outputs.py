"""What stands beside a finished clip, still out of sight: its pictures, and what the job says of it."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from homereel import media
from homereel.core.errors import GenerationFailed, UnwritableTarget
from homereel.jobs.blobs import CLIP, SPRITESHEET, THUMBNAIL

if TYPE_CHECKING:
    from homereel.core.plan import Plan
    from homereel.core.result import FiledClip

OUTPUTS = (THUMBNAIL, SPRITESHEET, CLIP)
THUMBNAIL_SIDE = 512
SHEET_FRAMES = 16
# Bytes on the disk for each byte of raw frames: an mp4 full of motion; two states, while one takes the other's place;
# the latents that are kept beside the clip.
_CLIP_PER_RAW = 0.1
_STATES_PER_RAW = 0.4
_LATENTS_PER_RAW = 0.1
_MIN_CLIP_BYTES = 8 * 2**20  # what media wants to find free before it writes any clip
_OTHER_BYTES = 4 * 2**20  # pictures, previews, the log, the database


def needed_bytes(plan: Plan) -> int:
    """Room that a job of this plan may need on the disk, at most."""
    raw_bytes = plan.num_frames * plan.width * plan.height * 3
    clip_bytes = max(_MIN_CLIP_BYTES, round(raw_bytes * _CLIP_PER_RAW))
    return clip_bytes + round(raw_bytes * (_STATES_PER_RAW + _LATENTS_PER_RAW)) + _OTHER_BYTES


def check_room(folder: Path, plan: Plan) -> None:
    """Raises UnwritableTarget, with the bytes needed and the bytes free, if the disk of `folder` is too full."""
    media.check_target(folder / CLIP, needed_bytes=needed_bytes(plan))


def write_outputs(clip: FiledClip, part: Path) -> dict[str, Any]:
    """Write thumbnail and spritesheet into the hidden folder `part`, where the clip is; returns what the job tells.

    The pictures are taken from the clip as it was written, so that one which cannot be played is never shown. Raises
    UnwritableTarget, UnreadableMedia.
    """
    found = media.probe(clip.path)
    shown = _some_frames(clip.path, num_frames=clip.plan.num_frames, fps=clip.fps)
    try:
        _write_pictures(shown, part)
    except OSError as error:
        raise UnwritableTarget(f"the pictures of a clip cannot be written: {error.strerror or error}") from error
    return {
        "file": CLIP,
        "model": clip.plan.model,
        "bytes": found.size_bytes,
        "sha256": _sha256(clip.path),
        "width": found.width,
        "height": found.height,
        "num_frames": clip.plan.num_frames,
        "fps": clip.fps,
        "seconds": clip.plan.num_frames / clip.fps,
        "seed": clip.plan.seed,
        "frames_sha256": clip.frames_sha256,
        "sound_sha256": clip.sound_sha256,
        "timing": {name: round(seconds, 3) for name, seconds in asdict(clip.timing).items()},
        "peak_bytes": clip.peak_bytes,
        "thumbnail": THUMBNAIL,
        "spritesheet": SPRITESHEET,
        "warnings": list(clip.plan.warnings),
    }


def _some_frames(clip: Path, *, num_frames: int, fps: float) -> NDArray[np.uint8]:
    """Up to 16 frames of the clip, evenly spaced, made small while it is read."""
    from PIL import Image

    def shrink(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        image = Image.fromarray(frame)
        image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        return np.asarray(image)

    sparse = fps * min(1.0, SHEET_FRAMES / num_frames)
    frames: NDArray[np.uint8] = media.read_clip(clip, fps=sparse, fit=shrink).frames
    if not len(frames):
        raise GenerationFailed("the clip that was written has no frames; try again")
    return frames[:SHEET_FRAMES]


def _write_pictures(frames: NDArray[np.uint8], part: Path) -> None:
    """The frame in the middle says more of a clip than its first."""
    from PIL import Image

    Image.fromarray(frames[len(frames) // 2]).save(part / THUMBNAIL, "WEBP", quality=80, method=4)
    sheet = media.contact_sheet([frames], frames_per_clip=SHEET_FRAMES, frames_per_row=4)
    Image.fromarray(sheet).save(part / SPRITESHEET, "JPEG", quality=85)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
