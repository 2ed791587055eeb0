"""Read the sound of a clip, whoever made the file: bounded, in time with its frames; whole, or block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from homereel.core.errors import UnreadableMedia
from homereel.core.sound import Sound
from homereel.media.budget import DecodeBudget
from homereel.media.decode_sound import Piece, iterate_pieces, open_sound
from homereel.media.frame_folder import list_frames
from homereel.media.limits import Limits
from homereel.media.local_file import open_local, shown
from homereel.media.sniff import VIDEO_KINDS, Kind, sniff
from homereel.media.sound_source import Samples, SoundStream

_GAP_SECONDS = 0.05
"""Shorter gaps are the rounding of times in a container."""


def read_sound(path: str | Path, *, limits: Limits | None = None) -> Sound | None:
    """The first sound track of a video, at its own rate, limited to -1..1; None for a clip or a picture without.

    Sample 0 sounds with the first frame that `read_clip` gives: what comes before it is left out, a late start and
    gaps are silence. A file with sound alone (such as .m4a) is read, too. Raises UnreadableMedia over any of
    `limits`, and for a file that breaks off in the middle, which `read_clip` reads as far as it goes.
    """
    with open_sound_stream(path, limits=limits or Limits()) as stream:
        samples = [] if stream is None else [block for block in stream.blocks if len(block)]
        return Sound(np.concatenate(samples), stream.rate) if stream is not None and samples else None


@contextmanager
def open_sound_stream(path: str | Path, *, limits: Limits) -> Iterator[SoundStream | None]:
    """The same as blocks to be read while the file is open."""
    if list_frames(path, limits=limits) is not None:
        yield None
        return
    with open_local(path, max_bytes=limits.max_file_bytes) as file:
        kind = sniff(file, path=path)
        if kind not in VIDEO_KINDS:
            yield None
            return
        with open_sound(file, kind=kind, path=path, limits=limits) as container:
            yield _stream(container, kind=kind, path=path, limits=limits) if container.streams.audio else None


def _stream(container: Any, *, kind: Kind, path: str | Path, limits: Limits) -> SoundStream | None:
    stream = container.streams.audio[0]
    first_frame = _start_seconds(container.streams.video[0]) if container.streams.video else 0.0
    budget = DecodeBudget(limits, path=path)
    pieces = iterate_pieces(container, budget=budget)
    first = next(pieces, None)
    if first is None:
        if stream.frames:
            raise UnreadableMedia(f"{shown(path)} has a sound track that cannot be decoded; is it damaged?")
        return None  # a track that was never filled
    stop: float | None = None
    if kind in ("mp4", "mov") and stream.duration:  # the last block of a codec is filled up with silence
        stop = _start_seconds(stream) + float(stream.duration * stream.time_base) - first_frame
    blocks = _in_time(chain([first], pieces), start=first_frame, budget=budget)
    most = None if stop is None else max(round(stop * first.rate), 0)
    return SoundStream(_limited(blocks, most=most), first.rate, first.samples.shape[1])


def _start_seconds(stream: Any) -> float:
    return float(stream.start_time * stream.time_base) if stream.start_time else 0.0


def _in_time(pieces: Iterable[Piece], *, start: float, budget: DecodeBudget) -> Iterator[Samples]:
    """All samples one after another, from `start` seconds on."""
    held = 0
    for piece in pieces:
        samples, rate = piece.samples, piece.rate
        missing = 0 if piece.seconds is None else round((piece.seconds - start) * rate) - held
        if held == 0 and missing < 0:
            samples = samples[-missing:]
        elif missing > (0 if held == 0 else _GAP_SECONDS * rate):
            budget.keep(missing * samples.shape[1] * 4)
            yield np.zeros((missing, samples.shape[1]), np.float32)
            held += missing
        yield samples
        held += len(samples)


def _limited(blocks: Iterable[Samples], *, most: int | None) -> Iterator[Samples]:
    """No louder than 1, and at most so many; what lies behind is still decoded, since it may be over a limit."""
    given = 0
    for block in blocks:
        kept = block if most is None else block[: most - given]
        yield np.clip(kept, -1, 1)
        given += len(kept)
