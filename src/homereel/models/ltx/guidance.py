"""LTX-2's three kinds of guidance, for picture and sound apart: away from other words, from attention left out in
some blocks (Hyung et al. 2024, arXiv 2411.18664), and from a pass in which picture and sound do not hear each other.

All act on the predicted clean latents. Shape letters: B batch, S tokens, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from homereel.models.ltx.config import LtxConfig

if TYPE_CHECKING:  # a plan asks whether words are compared, without torch
    from torch import Tensor

# In which block attention is left out, as the makers advise.
SKIPPED_BLOCK = {"2.0": 29, "2.3": 28, "2.5": 28}


@dataclass(frozen=True)
class StreamGuidance:
    """How far to go from each weaker picture: `words` and `alone` are off at 1, `skip` and `rescale` at 0."""

    words: float
    skip: float = 0.0
    alone: float = 1.0
    rescale: float = 0.0


@dataclass(frozen=True)
class Guidance:
    """For both streams; `blocks` are those in which attention is left out."""

    video: StreamGuidance
    audio: StreamGuidance
    blocks: tuple[int, ...] = ()

    @property
    def compares_words(self) -> bool:
        return self.video.words > 1 or self.audio.words > 1

    @property
    def skips(self) -> bool:
        return self.video.skip > 0 or self.audio.skip > 0

    @property
    def isolates(self) -> bool:
        return self.video.alone > 1 or self.audio.alone > 1


def guidance_for(config: LtxConfig, scale: float) -> Guidance:
    """What the makers advise for this model, with `scale` for the picture's words; 1 is no guidance at all.

    A distilled model was trained to do without; if guidance is asked of it, words alone guide.
    """
    if scale == 1 or config.distilled:
        return Guidance(video=StreamGuidance(scale), audio=StreamGuidance(scale))
    block = SKIPPED_BLOCK[config.generation]
    skip = 1.0 if config.skips and block < config.num_blocks else 0.0
    return Guidance(
        video=StreamGuidance(scale, skip=skip, alone=3.0, rescale=0.7),
        audio=StreamGuidance(7.0, skip=skip, alone=3.0, rescale=0.7),
        blocks=(block,) if skip else (),
    )


def guided(
    wanted: Tensor, *, other: Tensor | None, skipped: Tensor | None, alone: Tensor | None, scales: StreamGuidance
) -> Tensor:
    """The clean latents to go to, from those of each pass (B, S, C); None is a pass that was not made."""
    picture = wanted
    if other is not None:
        picture = picture + (scales.words - 1) * (wanted - other)
    if skipped is not None:
        picture = picture + scales.skip * (wanted - skipped)
    if alone is not None:
        picture = picture + (scales.alone - 1) * (wanted - alone)
    return _rescaled(picture, wanted, share=scales.rescale) if scales.rescale > 0 else picture


def _rescaled(picture: Tensor, wanted: Tensor, *, share: float) -> Tensor:
    """Draw the contrast back towards that of the prompt's own picture (Lin et al. 2023, arXiv 2305.08891, eq. 16)."""
    axes = tuple(range(1, picture.ndim))
    as_wanted = picture * (wanted.std(dim=axes, keepdim=True) / picture.std(dim=axes, keepdim=True))
    return share * as_wanted + (1 - share) * picture
