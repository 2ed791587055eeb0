"""Write AAC beside the frames of an mp4, in step with them, so that neither waits in memory for the other.

An AAC encoder needs 1024 samples of run-up before the first one that can be heard. They are timed before
zero, and the edit list that the container writes makes players skip them: sample 0 sounds with frame 0.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from homereel.media.sound_source import LAYOUTS, Samples, Sounding, SoundStream, audio_frame, conformed, take_blocks

_AAC_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000)
_BLOCK_SAMPLES = 2**16

# The two-loop search of the encoder, its default, has 10 dB of signal over noise in the first 80 ms of a
# stream at these rates, and noise substitution puts hiss in the place of tones there; the fast search has 30.
_ENCODER_OPTIONS = {"aac_coder": "fast", "aac_pns": "0", "flags": "+bitexact"}


class AacTrack:
    """The sound of an mp4 that is being written; `put` takes its packets. It must be made before the first packet goes
    into the container. No more of a stream is read than the frames have come to.
    """

    def __init__(
        self, container: Any, sound: Sounding, *, put: Callable[[Any], object], fps: Fraction, quality: int
    ) -> None:
        self._put = put
        self._rate = aac_rate(sound.rate)
        stream = SoundStream(take_blocks(sound), sound.rate, sound.num_channels)
        self._blocks = conformed(stream, rate=self._rate, num_channels=sound.num_channels)
        self._held: Samples = np.zeros((0, sound.num_channels), np.float32)
        self._samples_a_frame = self._rate / fps
        self._position = 0
        self._layout = LAYOUTS[sound.num_channels - 1]
        self._stream = container.add_stream("aac", rate=self._rate, layout=self._layout, options=_ENCODER_OPTIONS)
        self._stream.bit_rate = bit_rate(sound, quality=quality)

    def fill(self, num_frames: int) -> None:
        """Write the sound up to the end of that many frames: silence where there is none, nothing beyond."""
        stop = round(num_frames * self._samples_a_frame)
        while self._position < stop:
            size = min(stop - self._position, _BLOCK_SAMPLES)
            block = self._next(size)
            padded = np.pad(block, ((0, size - len(block)), (0, 0)))
            frame = audio_frame(np.clip(padded, -1, 1), rate=self._rate, layout=self._layout, at=self._position)
            self._put(self._stream.encode(frame))
            self._position += size

    def finish(self) -> None:
        """Write what the encoder still holds."""
        self._put(self._stream.encode(None))

    def _next(self, size: int) -> Samples:
        """So many samples, or what is left of them."""
        while len(self._held) < size:
            block = next(self._blocks, None)
            if block is None:
                break
            self._held = np.concatenate([self._held, block])
        taken, self._held = self._held[:size], self._held[size:]
        return taken


def aac_rate(rate: int) -> int:
    """The rate itself if AAC has it, else the next one up, at most 96 kHz."""
    return next((known for known in _AAC_RATES if known >= rate), _AAC_RATES[-1])


def bit_rate(sound: Sounding, *, quality: int) -> int:
    """Bits a second: 32,000 a channel at quality 0, 96,000 at 80, 112,000 at 100; less at rates that have no
    use for it.
    """
    a_channel = min(32_000 + 800 * quality, 4 * aac_rate(sound.rate))
    return a_channel * sound.num_channels
