"""Rotary positions as the fused kernels take them: one cosine and one sine a pair of channels.

Families keep them doubled, one number a channel; half of that is all there is to read. Two channels that turn
together are neighbours ("interleaved": Wan, HunyuanVideo, LTX) or half a head apart ("halves": LTX-2).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor

Layout = Literal["interleaved", "halves"]


class Rotary(NamedTuple):
    """cos and sin (B or 1, L, H or 1, D/2): batch, tokens, heads, pairs of a head. float32 keeps angles exact."""

    cos_BLHP: Tensor
    sin_BLHP: Tensor
    layout: Layout


def rotary_of_channels(cos_BLHD: Tensor, sin_BLHD: Tensor, *, layout: Layout = "interleaved") -> Rotary:
    """From tables with a number a channel, (B or 1, L, H or 1, D): WanRotaryPosEmbed's as they are; (L, D) of
    HunyuanVideo as `[None, :, None]`; (B, L, H·D) of LTX after `unflatten(2, (H, D))`. Do it once a call."""
    if layout == "interleaved":
        return Rotary(cos_BLHD[..., 0::2].contiguous(), sin_BLHD[..., 1::2].contiguous(), layout)
    pairs = cos_BLHD.shape[-1] // 2
    return Rotary(cos_BLHD[..., :pairs].contiguous(), sin_BLHD[..., pairs:].contiguous(), layout)


def rotary_of_pairs(cos_BHLP: Tensor, sin_BHLP: Tensor, *, layout: Layout = "halves") -> Rotary:
    """From tables with a number a pair, heads before tokens, as LTX-2 has them; nothing is copied."""
    return Rotary(cos_BHLP.transpose(1, 2), sin_BHLP.transpose(1, 2), layout)
