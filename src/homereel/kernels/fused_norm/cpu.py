"""Norms with what follows them on a CPU: PyTorch's own vectorised operators, and few looks at memory.

The same as `reference` to a unit in the last place or two, in a third of the time in float32 and less in bfloat16.
B batch, L tokens, C channels of H heads of D; G groups that are normed, P pairs of a head (D/2).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.weak import WeakTensorKeyDictionary

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
    is_turned = cos_BLHP is not None and sin_BLHP is not None
    turns = _turns(cos_BLHP, sin_BLHP) if cos_BLHP is not None and sin_BLHP is not None and interleaved else None
    if x_BLC.dtype == torch.bfloat16 and (turns is not None or not is_turned):
        return _short_norm_rope(x_BLC, weight.float(), turns, num_heads=num_heads, eps=eps)
    if turns is None:
        return reference.rms_norm_rope(
            x_BLC, weight, cos_BLHP, sin_BLHP, num_heads=num_heads, eps=eps, interleaved=interleaved
        )
    weight = weight.float()
    normed = F.rms_norm(x_BLC.unflatten(2, (-1, weight.numel())), (weight.numel(),), weight, eps)
    pairs_BLHP = torch.view_as_complex(normed.flatten(2).unflatten(2, (num_heads, -1, 2)))
    return torch.view_as_real(pairs_BLHP * turns).flatten(3)


# By the table of cosines, for as long as that is held: the blocks of a pass are given the same.
_TURNS: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def _turns(cos_BLHP: Tensor, sin_BLHP: Tensor) -> Tensor:
    known = None if torch.compiler.is_compiling() else _TURNS.get(cos_BLHP)
    if known is not None and known[0] is sin_BLHP:
        turns: Tensor = known[1]
        return turns
    turns = torch.complex(cos_BLHP.float(), sin_BLHP.float())
    if not torch.compiler.is_compiling():
        _TURNS[cos_BLHP] = (sin_BLHP, turns)
    return turns


def _short_norm_rope(x_BLC: Tensor, weight: Tensor, turns_BLHP: Tensor | None, *, num_heads: int, eps: float) -> Tensor:
    """The same of bfloat16, reckoned in float32: what divides a group goes into its turns, of which there are fewer."""
    groups = x_BLC.unflatten(2, (-1, weight.numel()))
    squares_BLG1 = torch.linalg.vector_norm(groups, dim=-1, keepdim=True, dtype=torch.float32).square_()
    shares_BLG1 = squares_BLG1.div_(weight.numel()).add_(eps).rsqrt_()
    scaled = groups.float().mul_(weight)
    heads_BLHD: Tensor = scaled.view(*x_BLC.shape[:2], num_heads, -1)
    if turns_BLHP is None:
        scaled.mul_(shares_BLG1)
    else:
        torch.view_as_complex(heads_BLHD.unflatten(3, (-1, 2))).mul_(turns_BLHP * shares_BLG1)
    return heads_BLHD.to(x_BLC.dtype)


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
        if centre:  # short numbers may come with float32 weights; they are rounded once
            return F.layer_norm(x_BLC, channels, weight, bias, eps)
        x_BLC = x_BLC.float()
        normed = F.rms_norm(x_BLC, channels, weight, eps)
        return normed if bias is None else normed.add_(bias)
    x_BLC = x_BLC.float()
    normed = F.layer_norm(x_BLC, channels, None, None, eps) if centre else F.rms_norm(x_BLC, channels, None, eps)
    if gain is not None and offset is not None:
        return torch.addcmul(offset, normed, gain)
    if gain is not None:
        return normed.mul_(gain)
    return normed if offset is None else normed.add_(offset)
