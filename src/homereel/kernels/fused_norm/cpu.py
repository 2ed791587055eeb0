"""Norms with what follows them on a CPU in float32: PyTorch's own vectorised operators, and few looks at memory.

The same as `reference` to a unit in the last place or two, in a third of the time. B batch, L tokens, C channels of H
heads of D; P pairs of a head (D/2).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from homereel.kernels.fused_norm import reference


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
    """See `reference.rms_norm_rope`. Neighbours that turn together are turned as complex numbers."""
    if cos_BLHP is None or sin_BLHP is None or not interleaved:
        return reference.rms_norm_rope(
            x_BLC, weight, cos_BLHP, sin_BLHP, num_heads=num_heads, eps=eps, interleaved=interleaved
        )
    weight = weight.float()
    normed = F.rms_norm(x_BLC.unflatten(2, (-1, weight.numel())), (weight.numel(),), weight, eps)
    pairs_BLHP = torch.view_as_complex(normed.flatten(2).unflatten(2, (num_heads, -1, 2)))
    turned = pairs_BLHP * torch.complex(cos_BLHP.float(), sin_BLHP.float())
    return torch.view_as_real(turned).flatten(3)


def norm_modulate(
    x_BLC: Tensor, gain: Tensor | None, offset: Tensor | None, *, eps: float, add_one: bool, centre: bool
) -> Tensor:
    """See `reference.norm_modulate`. Rows that are the same for all tokens of all clips are the norm's own weights."""
    channels = (x_BLC.shape[2],)
    gain = None if gain is None else gain.float()
    if gain is not None and add_one:
        gain = gain + 1
    offset = None if offset is None else offset.float()
    if all(rows is None or rows.shape[:2] == (1, 1) for rows in (gain, offset)):
        weight, bias = (None if rows is None else rows[0, 0] for rows in (gain, offset))
        if centre:
            return F.layer_norm(x_BLC, channels, weight, bias, eps)
        normed = F.rms_norm(x_BLC, channels, weight, eps)
        return normed if bias is None else normed.add_(bias)
    normed = F.layer_norm(x_BLC, channels, None, None, eps) if centre else F.rms_norm(x_BLC, channels, None, eps)
    if gain is not None and offset is not None:
        return torch.addcmul(offset, normed, gain)
    if gain is not None:
        return normed.mul_(gain)
    return normed if offset is None else normed.add_(offset)
