"""Sound in memory: what a model hears into a clip, what a file holds, checked once when it is made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homereel.core.errors import MediaError

MAX_CHANNELS = 8
MIN_RATE, MAX_RATE = 8_000, 192_000


@dataclass(frozen=True, eq=False)
class Sound:
    """`samples` are float32 (num_samples, num_channels) in -1..1, `rate` of them a second.

    What goes beyond -1..1 is limited when it is written. Channels stand in the order of WAV files: left, right,
    centre, low frequencies, and so on. Raises MediaError for anything else, and for numbers that are not finite.
    """

    samples: NDArray[np.float32]
    rate: int

    def __post_init__(self) -> None:
        samples = self.samples
        if not isinstance(samples, np.ndarray) or samples.dtype != np.float32 or samples.ndim != 2:
            found = f"{samples.dtype} {samples.shape}" if isinstance(samples, np.ndarray) else type(samples).__name__
            raise MediaError(f"a sound is {found}; it must be numpy float32 of shape (samples, channels)")
        if not 1 <= self.num_channels <= MAX_CHANNELS:
            raise MediaError(f"a sound has {self.num_channels} channels; 1 to {MAX_CHANNELS} are possible")
        if self.num_samples == 0:
            raise MediaError("a sound has no samples; leave it out where there is nothing to hear")
        if isinstance(self.rate, bool) or not isinstance(self.rate, int) or not MIN_RATE <= self.rate <= MAX_RATE:
            raise MediaError(
                f"a sound has {self.rate!r} samples a second; {MIN_RATE:,} to {MAX_RATE:,} are possible, "
                "as a whole number; try 48000"
            )
        if not np.isfinite(samples).all():
            raise MediaError("a sound holds numbers that are not finite; it was computed or decoded wrongly")

    @property
    def num_samples(self) -> int:
        return int(self.samples.shape[0])

    @property
    def num_channels(self) -> int:
        return int(self.samples.shape[1])

    @property
    def seconds(self) -> float:
        return self.num_samples / self.rate
