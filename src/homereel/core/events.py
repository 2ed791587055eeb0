"""What a running clip tells: the stage, how far it is, and a small picture if someone asks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Stage: TypeAlias = Literal["load", "text", "denoise", "decode", "write"]
Preview: TypeAlias = Callable[[], NDArray[np.uint8]]


@dataclass(frozen=True)
class Progress:
    """One message of a run. Steps count from 0 (nothing done) to `num_steps` (stage done).

    `remaining_seconds` is for the whole clip, None while it is unknown. `preview()` makes a few small frames
    (T, h, w, 3) from the current latents when called, not before; it must be called from within the callback.
    """

    stage: Stage
    step: int
    num_steps: int
    elapsed_seconds: float
    remaining_seconds: float | None = None
    preview: Preview | None = None


OnProgress: TypeAlias = Callable[[Progress], None]
ShouldStop: TypeAlias = Callable[[], bool]
