"""Decode the sound of mp4, mov, mkv and webm with PyAV, by a decoder from a short list, watched piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from homereel.core.errors import UnreadableMedia
from homereel.core.sound import MAX_CHANNELS, MAX_RATE, MIN_RATE
from homereel.media.budget import DecodeBudget
from homereel.media.decode_video import VIDEO_DECODERS, size_option
from homereel.media.limits import Limits
from homereel.media.local_file import shown
from homereel.media.open_container import open_container
from homereel.media.sniff import Kind

_CODECS = (
    *("aac", "mp3", "opus", "vorbis", "flac", "alac", "ac3", "eac3"),
    *("pcm_u8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be", "pcm_f32le", "pcm_f32be"),
)
_DECODERS = ",".join((*_CODECS, "mp3float", "libopus"))
_MAX_SAMPLES_A_PIECE = 2**20


@dataclass(frozen=True)
class SoundTrack:
    """What a sound track says of itself; None is what only decoding could tell."""

    codec: str
    rate: int | None
    num_channels: int | None
    seconds: float | None


@dataclass(frozen=True)
class Piece:
    """Some samples (n, num_channels) and the time of the first, None if the file does not tell it."""

    samples: NDArray[np.float32]
    rate: int
    seconds: float | None


@contextmanager
def open_sound(file: BinaryIO, *, kind: Kind, path: str | Path, limits: Limits) -> Iterator[Any]:
    """The PyAV container of an open file that must be whole. If it has a sound track, its claims are checked."""
    options = {"codec_whitelist": _DECODERS, "max_samples": str(_MAX_SAMPLES_A_PIECE)}
    # Without the decoder of the frames, nobody can say when the first of them is shown.
    both = {**options, "codec_whitelist": f"{_DECODERS},{VIDEO_DECODERS}", **size_option(limits)}
    with open_container(
        file, kind=kind, path=path, limits=limits, decoder_options=both, must_be_whole=True
    ) as container:
        track = sound_track(container)
        if track is not None:
            _check_track(track, path=path, limits=limits)
            container.streams.audio[0].codec_context.options = options
        yield container


def sound_track(container: Any) -> SoundTrack | None:
    """The first sound track, as the container tells of it; nothing is decoded."""
    if not container.streams.audio:
        return None
    stream = container.streams.audio[0]
    context = stream.codec_context
    return SoundTrack(
        codec="unknown" if context is None else str(context.codec.canonical_name),
        rate=None if context is None else int(context.sample_rate) or None,
        num_channels=None if context is None else int(context.layout.nb_channels) or None,
        seconds=float(stream.duration * stream.time_base) if stream.duration else None,
    )


def iterate_pieces(container: Any, *, budget: DecodeBudget) -> Iterator[Piece]:
    """The first sound track as float32, booked on the budget before it is converted."""
    import av

    path = budget.path
    resampler = av.AudioResampler(format="flt")  # to one number format, channels side by side
    rate, num_channels, num_samples = 0, 0, 0
    for frame in container.decode(audio=0):
        found = (frame.sample_rate, frame.layout.nb_channels)
        if rate and found != (rate, num_channels):
            raise UnreadableMedia(f"{shown(path)} changes the kind of its sound on the way; convert it first")
        rate, num_channels = found
        _check_kind(rate, num_channels, path=path)
        num_samples += frame.samples
        _check_seconds(num_samples / rate, path=path, limits=budget.limits)
        budget.keep(frame.samples * num_channels * 4)
        time = None if frame.time is None else float(frame.time)  # read before: the frame is taken apart
        packed = [part.to_ndarray().reshape(-1, num_channels) for part in resampler.resample(frame)]
        samples = np.concatenate(packed) if packed else np.zeros((0, num_channels), np.float32)
        if not np.isfinite(samples).all():
            raise UnreadableMedia(f"{shown(path)} holds sound that is no number; it is damaged")
        yield Piece(samples, rate, time)


def _check_track(track: SoundTrack, *, path: str | Path, limits: Limits) -> None:
    """Raises UnreadableMedia for claims over the limits."""
    if track.codec not in _CODECS:
        raise UnreadableMedia(
            f"{shown(path)} has sound coded as {track.codec!r}; AAC, MP3, Opus, Vorbis, FLAC, ALAC, AC-3 and "
            "PCM are read"
        )
    seconds = track.seconds or 0.0
    _check_seconds(seconds, path=path, limits=limits)
    if track.rate and track.num_channels:
        _check_kind(track.rate, track.num_channels, path=path)
        DecodeBudget(limits, path=path).keep(round(seconds * track.rate * track.num_channels * 4))


def _check_kind(rate: int, num_channels: int, *, path: str | Path) -> None:
    if not 1 <= num_channels <= MAX_CHANNELS or not MIN_RATE <= rate <= MAX_RATE:
        raise UnreadableMedia(
            f"{shown(path)} has sound of {num_channels} channels with {rate:,} samples a second; 1 to {MAX_CHANNELS} "
            f"channels and {MIN_RATE:,} to {MAX_RATE:,} samples are read; convert it first"
        )


def _check_seconds(seconds: float, *, path: str | Path, limits: Limits) -> None:
    if seconds > limits.max_seconds:
        raise UnreadableMedia(f"{shown(path)} has {seconds:,.0f} seconds of sound (limit {limits.max_seconds:,.0f})")
