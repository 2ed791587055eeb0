"""The sound of a film: that of its clips in turn, each as long as its frames, and silence where one has none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from homereel.media.limits import Limits
from homereel.media.read_sound import open_sound_stream
from homereel.media.sound_source import Samples, SoundStream, conformed
from homereel.workflows.film_pieces import Piece

_RATE, _NUM_CHANNELS = 48_000, 2
"""What is taken where a file does not say it before it is decoded."""

_SILENT_SAMPLES = 2**16


def film_sound(pieces: Sequence[Piece], *, fps: float) -> SoundStream | None:
    """To be read while the film is written; None if no piece has sound. It raises UnreadableMedia while it is read."""
    tracks = [piece.look.sound for piece in pieces if piece.look.sound is not None]
    if not tracks:
        return None
    rate = max(track.rate or _RATE for track in tracks)
    num_channels = max(track.num_channels or _NUM_CHANNELS for track in tracks)
    return SoundStream(_blocks(pieces, fps=fps, rate=rate, num_channels=num_channels), rate, num_channels)


def _blocks(pieces: Sequence[Piece], *, fps: float, rate: int, num_channels: int) -> Iterator[Samples]:
    """Where a piece begins is counted in frames from the start of the film, so that no rounding adds up."""
    num_frames, position = 0, 0
    for piece in pieces:
        num_frames += piece.num_frames
        stop = round(num_frames * rate / fps)
        yield from _piece(piece, count=stop - position, fps=fps, rate=rate, num_channels=num_channels)
        position = stop


def _piece(piece: Piece, *, count: int, fps: float, rate: int, num_channels: int) -> Iterator[Samples]:
    """Exactly `count` samples."""
    left = count
    with open_sound_stream(piece.path, limits=Limits()) as sound:
        if sound is not None:
            skipped = _without(sound.blocks, round(piece.skip_frames * sound.rate / fps))
            same = SoundStream(skipped, sound.rate, sound.num_channels)
            for block in conformed(same, rate=rate, num_channels=num_channels):
                yield block[:left]
                left -= len(block[:left])
                if left == 0:
                    return
    while left:
        size = min(left, _SILENT_SAMPLES)
        yield np.zeros((size, num_channels), np.float32)
        left -= size


def _without(blocks: Iterable[Samples], num_samples: int) -> Iterator[Samples]:
    """What comes behind so many samples."""
    for block in blocks:
        kept = block[num_samples:]
        num_samples -= len(block) - len(kept)
        if len(kept):
            yield kept
