"""A block of Wan's layout with fused norms.

Shape letters: B batch, L tokens, C channels; six rows of modulation, shift, scale and gate of attention, then of the
feed-forward.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from homereel.core.protocols import Family
from homereel.kernels.fused_norm import layer_norm, rotary_of_channels
from homereel.passes.attention import Rotary, WanSelfAttention
from homereel.passes.blocks import Changes, part_of
from homereel.passes.fused_gelu import fuse_gelu
from homereel.passes.normed import eps_of, fuse_rms_norm, normed_for, turned
from homereel.passes.remembered import remember
from homereel.passes.stacked import stack

# By the table of cosines, for as long as that is held.
_READY: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def fuse_wan_block(block: Any, *, in_chain: bool, changes: Changes, name: str, family: Family) -> None:
    """See `FuseBlock`."""
    attention: Any = part_of(block, "attn1", name=name, family=family)
    processor = WanSelfAttention.from_processor(attention.processor)
    processor.turn = fused_turn
    changes.set_processor(attention, processor)
    stack((attention.to_q, attention.to_k, attention.to_v))
    if in_chain:
        for part in ("norm2", "attn2", "ffn"):
            part_of(block, part, name=name, family=family)
        for norm in ("norm1", "norm3"):
            eps_of(part_of(block, norm, name=name, family=family), name=name, family=family)
        fuse_gelu(block.ffn, changes=changes)
        fuse_rms_norm(block.attn2.norm_q, changes=changes)
        for layer in (block.attn2.to_k, block.attn2.norm_k, block.attn2.to_v):
            remember(layer, changes=changes)
        changes.set_forward(block, partial(fused_block, block))


def fused_turn(attn: Any, q_BLF: Tensor, k_BLF: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor]:
    """See `Turn`. All blocks of a pass are given the same tables, which are made ready once."""
    if torch.compiler.is_compiling():
        return turned(attn, q_BLF, k_BLF, rotary_of_channels(*rotary))
    if rotary[0] not in _READY:
        _READY[rotary[0]] = rotary_of_channels(*rotary)
    return turned(attn, q_BLF, k_BLF, _READY[rotary[0]])


def fused_block(  # noqa: PLR0917  # diffusers' names, given by place
    block: Any,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor,
    temb: Tensor,
    rotary_emb: Rotary,
    attention_mask: Tensor | None = None,
) -> Tensor:
    """The arguments have diffusers' names."""
    x_BLC, attn, ffn = hidden_states, block.attn1, block.ffn
    shift, scale, gate, ff_shift, ff_scale, ff_gate = _modulation(block, temb, num_tokens=x_BLC.shape[1])
    projections = (attn.to_q, attn.to_k, attn.to_v)
    normed = normed_for(projections, x_BLC, scale=scale, shift=shift, eps=block.norm1.eps)
    x_BLC = _add_gated(x_BLC, attn(normed, None, attention_mask, rotary_emb), gate)
    x_BLC = x_BLC + block.attn2(_cross_norm(block.norm2, x_BLC), encoder_hidden_states, None, None)
    normed = normed_for(ffn.net[:1], x_BLC, scale=ff_scale, shift=ff_shift, eps=block.norm3.eps)
    return _add_gated(x_BLC, ffn(normed), ff_gate)


def _modulation(block: Any, temb: Tensor, *, num_tokens: int) -> tuple[Tensor, ...]:
    """Six rows (B, 1 or L, C) of a time for the clip (B, 6, C), or of one a token, whose six come last or first."""
    table: Tensor = block.scale_shift_table.float()  # (1, 6, C)
    if temb.ndim == 3:
        return (table + temb.float()).chunk(6, dim=1)
    if temb.shape[1:3] == (num_tokens, 6):  # Wan 2.2; SkyReels-V2 has them the other way round
        return (table[:, None] + temb.float()).unbind(2)
    return (table[:, :, None] + temb.float()).unbind(1)


def _add_gated(x_BLC: Tensor, update_BLC: Tensor, gate: Tensor) -> Tensor:
    """x + update · gate, in float32 and rounded once; on a CPU with the gate in bfloat16, which is 20 times as fast."""
    if x_BLC.device.type == "cpu" and x_BLC.dtype == update_BLC.dtype == torch.bfloat16:
        return torch.addcmul(x_BLC, update_BLC, gate.to(x_BLC.dtype))
    return torch.addcmul(x_BLC.float(), update_BLC.float(), gate).type_as(x_BLC)


def _cross_norm(norm: nn.Module, x_BLC: Tensor) -> Tensor:
    if isinstance(norm, nn.LayerNorm):
        normed: Tensor = layer_norm(x_BLC, weight=norm.weight, bias=norm.bias, eps=norm.eps)
        return normed
    return x_BLC
