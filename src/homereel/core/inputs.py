"""What a clip is made from besides words: pictures at their places in time, footage, masks, references.

All are as they were read, of any size; a family fits them to the clip. Legend: T frames, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

# The kinds of input that a model may take besides words, and the option that gives each.
OPTIONS = {
    "image": "--image",
    "last": "--last",
    "keyframes": "--keyframe",
    "video": "--video",
    "mask": "--mask",
    "references": "--reference",
}


# The same for what starts from another clip's latents.
CLIP_OPTIONS = {"refine": "homereel refine", "extend": "homereel extend"}


@dataclass(frozen=True)
class PlacedPicture:
    """A picture (H, W, 3) that frame `frame` of the clip shall show."""

    frame: int
    pixels: Pixels


@dataclass(frozen=True)
class Inputs:
    """Words and pictures for one clip; `pictures` are in the order of their frames."""

    prompt: str
    negative_prompt: str = ""
    pictures: tuple[PlacedPicture, ...] = ()
    video: Pixels | None = None  # (T, H, W, 3), at the clip's frames a second, as many frames or fewer
    mask: Pixels | None = None  # (T, H, W): 255 is to be made anew, 0 is kept
    references: tuple[Pixels, ...] = ()
    kept: Any | None = (
        None  # latents (1, C, T, h, w) of a clip to be refined or gone on from; of any size to be refined
    )

    @property
    def first(self) -> Pixels | None:
        """The picture of the first frame."""
        return self.pictures[0].pixels if self.pictures and self.pictures[0].frame == 0 else None

    def last(self, num_frames: int) -> Pixels | None:
        """The picture of the last frame of a clip of this length."""
        at_end = [picture.pixels for picture in self.pictures if picture.frame == num_frames - 1 > 0]
        return at_end[0] if at_end else None
