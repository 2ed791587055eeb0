"""How HunyuanVideo-1.5's blocks attend when a clip comes alone: to all of the video and to the text as long as it is.

diffusers pads texts to one length and hides the padding with a mask of S x S places in every layer, which is 12.9 GB
for 121 frames at 720p. Text that is cut to its length needs no mask, and gives the same numbers.
Shape letters: B batch, S places of the video, L text tokens, N heads, D features of one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor, nn

Places = tuple[Tensor, Tensor]
"""(L, D) cosines and sines, each number twice."""
Turn = Callable[[Any, Tensor, Tensor, Places], tuple[Tensor, Tensor]]
"""Norm and places of queries and keys, as `plain_turn` has them."""


class SlicedTextAttention:
    """A processor for diffusers' `Attention`. It needs text without padding, so it takes one clip at a time."""

    _attention_backend: Any = None  # diffusers' own names, by which a backend is chosen a layer
    _parallel_config: Any = None
    turn: Turn | None = None  # the norm and places of the video's queries and keys, where a pass has its own

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,  # noqa: ARG002  # the blocks give one, all true
        *,
        image_rotary_emb: Places,
    ) -> tuple[Tensor, Tensor]:
        assert hidden_states.shape[0] == 1, "texts of several clips differ in length, and would need a mask"
        turn = self.turn or plain_turn
        video = (
            *turn(attn, attn.to_q(hidden_states), attn.to_k(hidden_states), image_rotary_emb),
            _heads(attn, attn.to_v, hidden_states),
        )
        text = (
            attn.norm_added_q(_heads(attn, attn.add_q_proj, encoder_hidden_states)),
            attn.norm_added_k(_heads(attn, attn.add_k_proj, encoder_hidden_states)),
            _heads(attn, attn.add_v_proj, encoder_hidden_states),
        )
        query, key, value = (torch.cat(pair, dim=1) for pair in zip(video, text, strict=True))
        attended = dispatch_attention_fn(
            query,
            key,
            value,
            attn_mask=None,
            backend=self._attention_backend,
            parallel_config=self._parallel_config,
        )
        rows = attended.flatten(2, 3).to(query.dtype)
        of_video, of_text = rows.split([hidden_states.shape[1], encoder_hidden_states.shape[1]], dim=1)
        return attn.to_out[1](attn.to_out[0](of_video)), attn.to_add_out(of_text)


def without_masks(transformer: nn.Module) -> nn.Module:
    """The same network, its blocks attending as above; names of tensors stay."""
    parts: Any = transformer
    for block in parts.transformer_blocks:
        block.attn.set_processor(SlicedTextAttention())
    return transformer


def plain_turn(attn: Any, query: Tensor, key: Tensor, places: Places) -> tuple[Tensor, Tensor]:
    """(B, L, N * D) each to (B, L, N, D) each."""
    query, key = (rows.unflatten(2, (attn.heads, -1)) for rows in (query, key))
    return (
        apply_rotary_emb(attn.norm_q(query), places, sequence_dim=1),
        apply_rotary_emb(attn.norm_k(key), places, sequence_dim=1),
    )


def _heads(attn: Any, layer: nn.Module, rows: Tensor) -> Tensor:
    """(B, L, N * D) to (B, L, N, D)."""
    heads: Tensor = layer(rows).unflatten(2, (attn.heads, -1))
    return heads
