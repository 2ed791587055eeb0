"""Read the sound of a clip into memory, whoever made the file: bounded, and in time with its frames."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homereel.core.errors import UnreadableMedia
from homereel.core.sound import Sound
from homereel.media.budget import DecodeBudget
from homereel.media.decode_sound import Piece, iterate_pieces, open_sound
from homereel.media.frame_folder import list_frames
from homereel.media.limits import Limits
from homereel.media.local_file import open_local, shown
from homereel.media.sniff import VIDEO_KINDS, Kind, sniff

_GAP_SECONDS = 0.05
"""Shorter gaps are the rounding of times in a container."""


def read_sound(path: str | Path, *, limits: Limits | None = None) -> Sound | None:
    """The first sound track of a video, at its own rate, limited to -1..1; None for a clip or a picture without.

    Sample 0 sounds with the first frame that `read_clip` gives: what comes before it is left out, a late start and
    gaps are silence. A file with sound alone (such as .m4a) is read, too. Raises UnreadableMedia over any of
    `limits`, and for a file that breaks off in the middle, which `read_clip` reads as far as it goes.
    """
    limits = limits or Limits()
    if list_frames(path, limits=limits) is not None:
        return None
    with open_local(path, max_bytes=limits.max_file_bytes) as file:
        kind = sniff(file, path=path)
        if kind not in VIDEO_KINDS:
            return None
        with open_sound(file, kind=kind, path=path, limits=limits) as container:
            if not container.streams.audio:
                return None
            return _read(container, kind=kind, path=path, limits=limits)


def _read(container: Any, *, kind: Kind, path: str | Path, limits: Limits) -> Sound | None:
    stream = container.streams.audio[0]
    first_frame = _start_seconds(container.streams.video[0]) if container.streams.video else 0.0
    budget = DecodeBudget(limits, path=path)
    sound = _in_time(iterate_pieces(container, budget=budget), start=first_frame, budget=budget)
    if sound is None:
        if stream.frames:
            raise UnreadableMedia(f"{shown(path)} has a sound track that cannot be decoded; is it damaged?")
        return None  # a track that was never filled
    samples, rate = sound
    if kind in ("mp4", "mov") and stream.duration:  # the last block of a codec is filled up with silence
        stop = _start_seconds(stream) + float(stream.duration * stream.time_base) - first_frame
        samples = samples[: max(round(stop * rate), 0)]
    return Sound(np.clip(samples, -1, 1), rate) if len(samples) else None


def _start_seconds(stream: Any) -> float:
    return float(stream.start_time * stream.time_base) if stream.start_time else 0.0


def _in_time(pieces: Iterable[Piece], *, start: float, budget: DecodeBudget) -> tuple[NDArray[np.float32], int] | None:
    """All samples one after another, from `start` seconds on, and their rate; None if there are none."""
    placed: list[NDArray[np.float32]] = []
    held, rate = 0, 0
    for piece in pieces:
        samples, rate = piece.samples, piece.rate
        missing = 0 if piece.seconds is None else round((piece.seconds - start) * rate) - held
        if held == 0 and missing < 0:
            samples = samples[-missing:]
        elif missing > (0 if held == 0 else _GAP_SECONDS * rate):
            budget.keep(missing * samples.shape[1] * 4)
            placed.append(np.zeros((missing, samples.shape[1]), np.float32))
            held += missing
        placed.append(samples)
        held += len(samples)
    return (np.concatenate(placed), rate) if placed else None
