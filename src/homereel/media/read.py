"""Read a clip into memory, whoever made the file: bounded, upright, RGB, at the speed that is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from homereel.core.errors import MediaError, UnreadableMedia
from homereel.media.budget import DecodeBudget
from homereel.media.clip_source import open_clip
from homereel.media.limits import Limits
from homereel.media.local_file import shown
from homereel.media.retime import take_shots

Fit = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


@dataclass(frozen=True)
class Clip:
    """Frames (T, H, W, 3), and how many of them are shown a second."""

    frames: NDArray[np.uint8]
    fps: float


def read_clip(
    path: str | Path,
    *,
    limits: Limits | None = None,
    fps: float | None = None,
    num_frames: int | None = None,
    fit: Fit | None = None,
) -> Clip:
    """The frames of a video, an animated GIF or WebP, a folder of PNG frames or a `name_%04d.png` pattern.

    The format is what the content says, not the name. Transparent parts lie over white. Animations with
    frames of different length come out evenly timed, frames repeated. PNG frames take their speed from the
    record they carry, else 16 a second. Raises UnreadableMedia for anything else and over any of `limits`.

    With `fps`, the clip at that speed: for each moment the nearest frame at or before it. With `num_frames`, so many
    from the start, and the rest is not decoded; MediaError says how many there are if these are fewer. `fit` scales
    or crops each frame before it is kept, so that footage of any size needs memory for the result alone.
    """
    limits = limits or Limits()
    try:
        with open_clip(path, limits=limits) as source:
            pictures = take_shots(source.shots, fps=fps, num_frames=num_frames)
            frames = collect(pictures, budget=DecodeBudget(limits, path=path), fit=fit)
    except _FitFailed as failed:
        raise failed.error from None
    clip = Clip(frames, fps or source.fps)
    check_length(clip.frames, num_frames, fps=clip.fps, path=path)
    return clip


def collect(
    pictures: Iterable[NDArray[np.uint8]], *, budget: DecodeBudget, fit: Fit | None = None
) -> NDArray[np.uint8]:
    """All pictures in one array. They must be of one size, and at least one."""
    path, shape = budget.path, None
    held: list[NDArray[np.uint8]] = []
    for picture in pictures:
        if shape is not None and picture.shape != shape:
            raise UnreadableMedia(f"{shown(path)} changes its frame size on the way; convert it to one size first")
        shape = picture.shape
        budget.decode(width=shape[1], height=shape[0])
        kept = picture if fit is None else _fitted(picture, fit)
        budget.keep(kept.nbytes)
        held.append(kept)
    if not held:
        raise UnreadableMedia(f"{shown(path)} has no frame that can be decoded; is it cut short?")
    return np.stack(held)


class _FitFailed(Exception):
    """Carries what the caller's `fit` raised past the handling of damaged files."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def _fitted(picture: NDArray[np.uint8], fit: Fit) -> NDArray[np.uint8]:
    try:
        return fit(picture)
    except Exception as error:
        raise _FitFailed(error) from error


def check_length(frames: NDArray[np.uint8], num_frames: int | None, *, fps: float, path: str | Path) -> None:
    """Raise MediaError if there are fewer frames than wanted."""
    if num_frames is not None and len(frames) < num_frames:
        raise MediaError(
            f"{shown(path)} gives {len(frames)} frames at {fps:g} a second ({len(frames) / fps:.2f} s), and "
            f"{num_frames} are wanted; ask for at most {len(frames)}, or give a longer clip"
        )
