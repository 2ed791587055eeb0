"""Read a mask: which part of footage or of a picture is to be made anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homereel.media.budget import DecodeBudget
from homereel.media.clip_source import open_clip
from homereel.media.decode_image import to_grey_alpha
from homereel.media.frame_folder import list_frames
from homereel.media.limits import Limits
from homereel.media.local_file import open_local
from homereel.media.probe import probe
from homereel.media.read import check_length, collect
from homereel.media.read_image import read_picture
from homereel.media.retime import take_shots
from homereel.media.sniff import ANIMATED_KINDS, IMAGE_KINDS, sniff

_LUMA = np.array([299, 587, 114], dtype=np.uint32)  # of red, green and blue, in thousandths


def read_mask(
    path: str | Path, *, num_frames: int, fps: float | None = None, limits: Limits | None = None
) -> NDArray[np.uint8]:
    """(T, H, W) grey levels with T = `num_frames`: white (255) is changed, black (0) is kept.

    A picture holds for all frames. A clip gives a mask for each frame, at its own speed or at `fps`; MediaError says
    how many there are if these are fewer. Where pictures have an alpha channel that is not the same all over, it
    is the mask and the colours do not count: what was erased is changed, what is opaque is kept. Raises
    UnreadableMedia as `read_clip` does.
    """
    limits = limits or Limits()
    budget = DecodeBudget(limits, path=path)
    if _is_picture(path, limits=limits):
        mask = _levels(read_picture(path, max_pixels=limits.max_pixels, convert=to_grey_alpha)[None])
        budget.keep(mask.nbytes * num_frames)
        return np.repeat(mask, num_frames, axis=0)
    with open_clip(path, limits=limits, convert=to_grey_alpha) as source:
        pictures = take_shots(source.shots, fps=fps, num_frames=num_frames)
        masks = _levels(collect(pictures, budget=budget, fit=_grey))
    check_length(masks, num_frames, fps=fps or source.fps, path=path)
    return masks


def _is_picture(path: str | Path, *, limits: Limits) -> bool:
    """Whether it is one picture, not a clip; a GIF or WebP with a single frame is one, too."""
    if list_frames(path, limits=limits) is not None:
        return False
    with open_local(path, max_bytes=limits.max_file_bytes) as file:
        kind = sniff(file, path=path)
    if kind in ANIMATED_KINDS:
        return probe(path).num_frames == 1
    return kind in IMAGE_KINDS


def _grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The frames of a video come as (H, W, 3): made (H, W, 1). Pictures are (H, W, 2), grey and alpha, already."""
    if picture.shape[2] == 2:
        return picture
    return ((picture @ _LUMA + 500) // 1000).astype(np.uint8)[:, :, None]


def _levels(masks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(T, H, W) of (T, H, W, 1 or 2); one decision about alpha for the whole clip."""
    alpha: Any = masks[..., -1]
    has_alpha = masks.shape[-1] == 2 and alpha.min() != alpha.max()
    return np.ascontiguousarray(255 - alpha if has_alpha else masks[..., 0])
