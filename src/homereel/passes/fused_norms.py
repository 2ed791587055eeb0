"""Norms in one with what follows them: rotary positions of queries and keys, and the blocks' modulation.

Shape letters: B batch, L tokens, C channels; six rows of modulation, shift, scale and gate of attention, then of the
feed-forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from homereel.core.errors import UnsupportedPass
from homereel.core.machine import Machine
from homereel.core.protocols import Component, Family, Undo
from homereel.kernels.fused_norm import layer_norm, norm_modulate, rms_norm_rope, rotary_of_channels, support
from homereel.passes.attention import Rotary, WanSelfAttention
from homereel.passes.blocks import Changes, blocks_of, part_of
from homereel.passes.technique import Technique

LAYOUT = "wan"


@dataclass(frozen=True)
class FusedNorms(Technique):
    """Exact but for rounding: norm and modulation are rounded once instead of twice."""

    name: ClassVar[str] = "fused_norms"

    def check(self, family: Family, machine: Machine) -> None:
        blocks = family.block_facts
        if blocks.layout != LAYOUT:
            raise UnsupportedPass(
                f"{self.name}: only blocks like Wan's have them so far, not those of {family.model}; "
                "compile fuses the norms of any family"
            )
        if machine.device == "cpu":
            return
        reason = support(device=torch.device(machine.device), num_channels=blocks.num_heads * blocks.head_size)
        if reason is not None:
            raise UnsupportedPass(f"{self.name}: {reason}; compile fuses the norms of any family")

    def apply(self, component: Component, family: Family) -> Undo:
        changes, chain = Changes(), family.block_facts.num_blocks
        try:
            for index, block in enumerate(blocks_of(component, family, name=self.name, side=True)):
                attention: Any = part_of(block, "attn1", name=self.name, family=family)
                processor = WanSelfAttention.from_processor(attention.processor)
                processor.turn = fused_turn
                changes.set_processor(attention, processor)
                if index < chain:  # blocks beside the chain have a way of their own
                    for part in ("norm1", "norm2", "norm3", "attn2", "ffn"):
                        part_of(block, part, name=self.name, family=family)
                    changes.set_forward(block, partial(fused_block, block))
        except BaseException:
            changes.undo()
            raise
        return changes.undo


def fused_turn(attn: Any, q_BLF: Tensor, k_BLF: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor]:
    """See `Turn`."""
    tables = rotary_of_channels(*rotary)

    def turned(rows_BLF: Tensor, norm: Any) -> Tensor:
        out: Tensor = rms_norm_rope(rows_BLF, norm.weight, num_heads=attn.heads, eps=norm.eps, rotary=tables)
        return out

    return turned(q_BLF, attn.norm_q), turned(k_BLF, attn.norm_k)


def fused_block(  # noqa: PLR0917  # diffusers' names, given by place
    block: Any,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor,
    temb: Tensor,
    rotary_emb: Rotary,
    attention_mask: Tensor | None = None,
) -> Tensor:
    """A block of Wan's layout; the arguments have diffusers' names."""
    x_BLC = hidden_states
    shift, scale, gate, ff_shift, ff_scale, ff_gate = _modulation(block, temb, num_tokens=x_BLC.shape[1])
    normed = norm_modulate(x_BLC, scale=scale, shift=shift, eps=block.norm1.eps)
    x_BLC = (x_BLC.float() + block.attn1(normed, None, attention_mask, rotary_emb) * gate).type_as(x_BLC)
    x_BLC = x_BLC + block.attn2(_cross_norm(block.norm2, x_BLC), encoder_hidden_states, None, None)
    normed = norm_modulate(x_BLC, scale=ff_scale, shift=ff_shift, eps=block.norm3.eps)
    out: Tensor = (x_BLC.float() + block.ffn(normed).float() * ff_gate).type_as(x_BLC)
    return out


def _modulation(block: Any, temb: Tensor, *, num_tokens: int) -> tuple[Tensor, ...]:
    """Six rows (B, 1 or L, C) of a time for the clip (B, 6, C), or of one a token, whose six come last or first."""
    table: Tensor = block.scale_shift_table.float()  # (1, 6, C)
    if temb.ndim == 3:
        return (table + temb.float()).chunk(6, dim=1)
    if temb.shape[1:3] == (num_tokens, 6):  # Wan 2.2; SkyReels-V2 has them the other way round
        return (table[:, None] + temb.float()).unbind(2)
    return (table[:, :, None] + temb.float()).unbind(1)


def _cross_norm(norm: nn.Module, x_BLC: Tensor) -> Tensor:
    if isinstance(norm, nn.LayerNorm):
        normed: Tensor = layer_norm(x_BLC, weight=norm.weight, bias=norm.bias, eps=norm.eps)
        return normed
    return x_BLC
