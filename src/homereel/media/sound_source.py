"""The sound on its way into a file: taken block by block from an array, or from whoever still reads it; at another
rate and with other channels, if that is wanted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from homereel.core.sound import Sound
from homereel.media.replace import SourceFailed

Samples: TypeAlias = NDArray[np.float32]

LAYOUTS = ("mono", "stereo", "3.0", "4.0", "5.0", "5.1", "6.1", "7.1")
"""What so many channels are, in the order of WAV files."""

_BLOCK_SAMPLES = 2**16


@dataclass(frozen=True, eq=False)
class SoundStream:
    """Sound that is still being read: blocks (n, num_channels) one after the other, `rate` samples a second."""

    blocks: Iterable[Samples]
    rate: int
    num_channels: int


Sounding: TypeAlias = Sound | SoundStream


def take_blocks(sound: Sounding) -> Iterator[Samples]:
    """The samples in short blocks. What a stream raises comes out wrapped in SourceFailed, so that it is never taken
    for a fault of the disk.
    """
    if isinstance(sound, Sound):
        for start in range(0, sound.num_samples, _BLOCK_SAMPLES):
            yield sound.samples[start : start + _BLOCK_SAMPLES]
        return
    source = iter(sound.blocks)
    while True:
        try:
            block = next(source)
        except StopIteration:
            return
        except Exception as error:
            raise SourceFailed(error) from error
        yield block


def conformed(sound: SoundStream, *, rate: int, num_channels: int) -> Iterator[Samples]:
    """The blocks at another rate and with other channels; sample 0 stays at time 0."""
    if (sound.rate, sound.num_channels) == (rate, num_channels):
        yield from sound.blocks
        return
    import av

    given = LAYOUTS[sound.num_channels - 1]
    resampler = av.AudioResampler(format="flt", layout=LAYOUTS[num_channels - 1], rate=rate)
    position = 0
    for block in sound.blocks:
        for frame in resampler.resample(audio_frame(block, rate=sound.rate, layout=given, at=position)):
            yield frame.to_ndarray().reshape(-1, num_channels)
        position += len(block)
    if position:  # a resampler that was never fed has nothing to give
        for frame in resampler.resample(None):
            yield frame.to_ndarray().reshape(-1, num_channels)


def audio_frame(block: Samples, *, rate: int, layout: str, at: int) -> Any:
    """An av.AudioFrame with the channels side by side: PyAV counts the planes of eight separate ones wrongly."""
    import av

    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block).reshape(1, -1), format="flt", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
    return frame
