"""Attention of a picture's tokens to themselves, for the two layouts of blocks that have it alone, in parts.

They compute what diffusers' own processors do, with the same calls, so that with every part left plain the numbers are
the same to the bit. A pass replaces one part and leaves the others as it finds them.
Shape letters: B batch, L tokens, H heads, D head size, F features of all heads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, Self

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import Tensor, nn

from homereel.passes.normed import Rows
from homereel.passes.stacked import project

Rotary = tuple[Tensor, Tensor]
"""Cosines and sines: of Wan's blocks (1, L, 1, D), each number twice; of two streams (B, H, L, D/2) or (B, L, F)."""


class Attend(Protocol):
    """q, k, v (B, L, H, D) to (B, L, H, D), or None where attention shall be dense."""

    def __call__(self, q_BLHD: Tensor, k_BLHD: Tensor, v_BLHD: Tensor, *, projection: nn.Linear) -> Tensor | None: ...


class Turn(Protocol):
    """Norm and rotary position of queries and keys: (B, L, F) each to (B, L, H, D) each."""

    def __call__(self, attn: Any, q_BLF: Tensor, k_BLF: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor]: ...


class SelfAttention(nn.Module):
    """What both layouts share. `proj_l` exists where sparse attention does, and is float32 as files keep it."""

    _attention_backend: Any = None  # diffusers' own names, by which a backend is chosen a layer
    _parallel_config: Any = None

    def __init__(self, *, attend: Attend | None = None, turn: Turn | None = None) -> None:
        super().__init__()
        self.attend, self.turn = attend, turn
        self.proj_l: nn.Linear | None = None

    @classmethod
    def from_processor(cls, processor: Any) -> Self:
        """The same computation as this processor's, to be changed; what a pass before has changed stays so."""
        made = cls()
        if isinstance(processor, cls):
            made.attend, made.turn, made.proj_l = processor.attend, processor.turn, processor.proj_l
        made._attention_backend = processor._attention_backend
        made._parallel_config = processor._parallel_config
        return made

    def add_projection(self, head_size: int, *, device: torch.device) -> nn.Linear:
        """The projection of what sparse attention leaves out, which begins as zero."""
        self.proj_l = nn.Linear(head_size, head_size, device=device, dtype=torch.float32).requires_grad_(False)
        nn.init.zeros_(self.proj_l.weight)
        nn.init.zeros_(self.proj_l.bias)
        return self.proj_l

    def mix(self, q_BLHD: Tensor, k_BLHD: Tensor, v_BLHD: Tensor, *, mask: Tensor | None) -> Tensor:
        """Attention as the passes want it: (B, L, F)."""
        mixed: Tensor | None = None
        if self.attend is not None and mask is None:
            assert self.proj_l is not None, "sparse attention comes with its projection"
            mixed = self.attend(q_BLHD, k_BLHD, v_BLHD, projection=self.proj_l)
        if mixed is None:
            mixed = dispatch_attention_fn(
                q_BLHD,
                k_BLHD,
                v_BLHD,
                attn_mask=mask,
                backend=self._attention_backend,
                parallel_config=self._parallel_config,
            )
        return mixed.flatten(2, 3).to(q_BLHD.dtype)


class WanSelfAttention(SelfAttention):
    """For blocks like Wan's."""

    def forward(
        self,
        attn: Any,
        hidden_states: Rows,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: Rotary | None = None,
    ) -> Tensor:
        assert encoder_hidden_states is None, "this is a self-attention"
        assert rotary_emb is not None, "a picture's tokens have places"
        query, key, value = project((attn.to_q, attn.to_k, attn.to_v), hidden_states)
        query, key = (self.turn or plain_turn)(attn, query, key, rotary_emb)
        mixed = self.mix(query, key, value.unflatten(2, (attn.heads, -1)), mask=attention_mask)
        out: Tensor = attn.to_out[1](attn.to_out[0](mixed))
        return out


class StreamSelfAttention(SelfAttention):
    """For a stream of LTX-2's blocks, whose guidance may leave attention out, wholly or token by token."""

    def __call__(  # noqa: PLR0917  # diffusers looks here for the names that it may give
        self,
        attn: Any,
        hidden_states: Rows,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        query_rotary_emb: Rotary | None = None,
        key_rotary_emb: Rotary | None = None,
        perturbation_mask: Tensor | None = None,
        all_perturbed: bool | None = None,
    ) -> Tensor:
        assert encoder_hidden_states is None, "this is a self-attention"
        assert key_rotary_emb is None, "queries and keys are the same tokens"
        assert query_rotary_emb is not None, "a picture's tokens have places"
        if all_perturbed is None:
            all_perturbed = perturbation_mask is not None and not bool(perturbation_mask.any())
        gates = None if attn.to_gate_logits is None else attn.to_gate_logits(hidden_states)
        value = attn.to_v(hidden_states)
        if all_perturbed:
            mixed = value
        else:
            query, key = attn.to_q(hidden_states), attn.to_k(hidden_states)
            query, key = (self.turn or stream_turn)(attn, query, key, query_rotary_emb)
            mask = None if attention_mask is None else _heads_mask(attn, attention_mask, rows=hidden_states)
            mixed = self.mix(query, key, value.unflatten(2, (attn.heads, -1)), mask=mask)
            if perturbation_mask is not None:
                mixed = torch.lerp(value, mixed, perturbation_mask)
        if gates is not None:
            mixed = (mixed.unflatten(2, (attn.heads, -1)) * (2.0 * gates.sigmoid())[..., None]).flatten(2, 3)
        out: Tensor = attn.to_out[1](attn.to_out[0](mixed))
        return out


def plain_turn(attn: Any, q_BLF: Tensor, k_BLF: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor]:
    """Norm over all heads together, then rotary position, as Wan's blocks have it."""
    query, key = attn.norm_q(q_BLF).unflatten(2, (attn.heads, -1)), attn.norm_k(k_BLF).unflatten(2, (attn.heads, -1))
    return _rotated(query, *rotary), _rotated(key, *rotary)


def stream_turn(attn: Any, q_BLF: Tensor, k_BLF: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor]:
    """The same as LTX-2's blocks have it, whose positions differ from head to head."""
    rotate = _rotation(attn.rope_type)
    query, key = rotate(attn.norm_q(q_BLF), rotary), rotate(attn.norm_k(k_BLF), rotary)
    return query.unflatten(2, (attn.heads, -1)), key.unflatten(2, (attn.heads, -1))


def _rotated(x_BLHD: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Pairs of neighbouring features turned by their place's angle."""
    even, odd = x_BLHD.unflatten(-1, (-1, 2)).unbind(-1)
    cosine, sine = cosines[..., 0::2], sines[..., 1::2]
    turned = torch.empty_like(x_BLHD)
    turned[..., 0::2] = even * cosine - odd * sine
    turned[..., 1::2] = even * sine + odd * cosine
    return turned


def _rotation(rope_type: str) -> Callable[[Tensor, Rotary], Tensor]:
    from diffusers.models.transformers.transformer_ltx2 import apply_interleaved_rotary_emb, apply_split_rotary_emb

    rotation: Callable[[Tensor, Rotary], Tensor]
    rotation = apply_split_rotary_emb if rope_type == "split" else apply_interleaved_rotary_emb
    return rotation


def _heads_mask(attn: Any, mask: Tensor, *, rows: Rows) -> Tensor:
    prepared: Tensor = attn.prepare_attention_mask(mask, rows.shape[1], rows.shape[0])
    return prepared.view(rows.shape[0], attn.heads, -1, prepared.shape[-1])
