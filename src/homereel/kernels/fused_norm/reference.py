"""Norms with what follows them, in plain PyTorch: the specification of the kernels, and the path without them.

B batch, L tokens, C channels of H heads of D; P pairs of a head (D/2). All is computed in float32 and rounded once.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rms_norm_rope(
    x_BLC: Tensor,
    weight: Tensor,
    cos_BLHP: Tensor | None,
    sin_BLHP: Tensor | None,
    *,
    num_heads: int,
    eps: float,
    interleaved: bool,
) -> Tensor:
    """(B, L, H, D): each stretch of as many channels as `weight` has divided by its root mean square, then turned."""
    groups = x_BLC.float().unflatten(2, (-1, weight.numel()))
    normed = groups * torch.rsqrt(groups.square().mean(-1, keepdim=True) + eps) * weight.float()
    normed_BLHD: Tensor = normed.flatten(2).unflatten(2, (num_heads, -1))
    if cos_BLHP is None or sin_BLHP is None:
        return normed_BLHD.to(x_BLC.dtype)
    cos_BLHP, sin_BLHP = cos_BLHP.float(), sin_BLHP.float()
    pairs = normed_BLHD.unflatten(3, (-1, 2) if interleaved else (2, -1))
    first, second = pairs.unbind(4 if interleaved else 3)
    turned = (first * cos_BLHP - second * sin_BLHP, first * sin_BLHP + second * cos_BLHP)
    return torch.stack(turned, 4 if interleaved else 3).flatten(3).to(x_BLC.dtype)


def norm_modulate(
    x_BLC: Tensor, gain: Tensor | None, offset: Tensor | None, *, eps: float, add_one: bool, centre: bool
) -> Tensor:
    """float32: x with mean 0 (if `centre`) and mean square 1 over C, times gain (or 1 + gain), plus offset."""
    x_BLC = x_BLC.float()
    if centre:
        x_BLC = x_BLC - x_BLC.mean(-1, keepdim=True)
    x_BLC = x_BLC * torch.rsqrt(x_BLC.square().mean(-1, keepdim=True) + eps)
    if gain is not None:
        x_BLC = x_BLC * (1 + gain.float() if add_one else gain.float())
    return x_BLC if offset is None else x_BLC + offset.float()
