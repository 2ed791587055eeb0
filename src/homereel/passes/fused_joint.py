"""A block in which picture and words attend together, with fused norms.

Its attention is the family's own; it lends the norm and rotary positions of the picture's queries and keys under the
name `turn`. Shape letters: B batch, L tokens, C channels, F features of all heads, D of one.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from homereel.core.errors import UnsupportedPass
from homereel.core.protocols import Family
from homereel.kernels.fused_norm import rotary_of_channels
from homereel.passes.blocks import Changes, part_of
from homereel.passes.fused_gelu import fuse_gelu
from homereel.passes.normed import eps_of, normed_for, turned

Rotary = tuple[Tensor, Tensor]
"""(L, D) cosines and sines, each number twice."""


def fuse_joint_block(block: Any, *, in_chain: bool, changes: Changes, name: str, family: Family) -> None:  # noqa: ARG001
    """See `FuseBlock`; there are no blocks beside the chain."""
    attention: Any = part_of(block, "attn", name=name, family=family)
    if not hasattr(attention.processor, "turn"):
        raise UnsupportedPass(
            f"{name}: the attention of {family.model} ({type(attention.processor).__name__}) lends no norms; "
            f"leave {name} out"
        )
    for part in ("norm1", "norm1_context"):
        whole: Any = part_of(block, part, name=name, family=family)
        eps_of(part_of(whole, "norm", name=name, family=family), name=name, family=family)
    for part in ("norm2", "norm2_context"):
        eps_of(part_of(block, part, name=name, family=family), name=name, family=family)
    changes.set_attribute(attention.processor, "turn", fused_turn)
    for part in ("ff", "ff_context"):
        fuse_gelu(part_of(block, part, name=name, family=family), changes=changes)
    changes.set_forward(block, partial(fused_block, block))


def fused_turn(attn: Any, q_BLF: Tensor, k_BLF: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor]:
    """Norm of each head, then rotary position: (B, L, F) each to (B, L, H, D) each."""
    cos_LD, sin_LD = rotary
    return turned(attn, q_BLF, k_BLF, rotary_of_channels(cos_LD[None, :, None], sin_LD[None, :, None]))


def fused_block(  # noqa: PLR0917  # diffusers' names, given by place
    block: Any,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor,
    temb: Tensor,
    attention_mask: Tensor | None = None,
    freqs_cis: Rotary | None = None,
) -> tuple[Tensor, Tensor]:
    """The arguments have diffusers' names."""
    video, text, attn = hidden_states, encoder_hidden_states, block.attn
    of_video, of_text = _modulation(block.norm1, temb), _modulation(block.norm1_context, temb)
    attended = attn(
        hidden_states=_before((attn.to_q, attn.to_k, attn.to_v), video, block.norm1.norm, rows=of_video[:2]),
        encoder_hidden_states=_before(
            (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj), text, block.norm1_context.norm, rows=of_text[:2]
        ),
        attention_mask=attention_mask,
        image_rotary_emb=freqs_cis,
    )
    video, text = video + attended[0] * of_video[2], text + attended[1] * of_text[2]
    video = video + of_video[5] * block.ff(_before(block.ff.net[:1], video, block.norm2, rows=of_video[3:5]))
    ff_context = block.ff_context
    text = text + of_text[5] * ff_context(_before(ff_context.net[:1], text, block.norm2_context, rows=of_text[3:5]))
    return video, text


def _before(layers: Any, x_BLC: Tensor, norm: Any, *, rows: tuple[Tensor, ...]) -> Any:
    """`x` normed and modulated by shift and scale, as these layers take it."""
    return normed_for(layers, x_BLC, scale=rows[1], shift=rows[0], eps=norm.eps)


def _modulation(norm: Any, temb: Tensor) -> tuple[Tensor, ...]:
    """Shift, scale and gate of attention, then of the feed-forward: (B, 1, C) each."""
    rows: Tensor = norm.linear(norm.silu(temb))
    return rows[:, None].chunk(6, dim=2)
