"""A block of two streams, picture and sound, each as in Wan's and each hearing the other, with fused norms.

Norms are RMSNorm without weights. Only the norm, modulation and rotary position of what a stream says to itself are
fused with the layers behind; how one hears the other and the words is computed by the attention that is there.
Shape letters: B batch, L tokens, C channels, F features of all heads, H heads, P pairs of a head's features.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from homereel.core.protocols import Family
from homereel.kernels.fused_norm import norm_modulate, rotary_of_channels, rotary_of_pairs
from homereel.passes.attention import Rotary, StreamSelfAttention
from homereel.passes.blocks import Changes, part_of
from homereel.passes.fused_gelu import fuse_gelu
from homereel.passes.normed import eps_of, normed_for, turned

_PREFIXES = ("", "audio_")  # of the parts of the picture's stream and of the sound's


def fuse_streams_block(block: Any, *, in_chain: bool, changes: Changes, name: str, family: Family) -> None:  # noqa: ARG001
    """See `FuseBlock`; there are no blocks beside the chain."""
    norms = [prefix + norm for prefix in _PREFIXES for norm in ("norm1", "norm2", "norm3")]
    for norm in (*norms, "audio_to_video_norm", "video_to_audio_norm"):
        eps_of(part_of(block, norm, name=name, family=family), name=name, family=family)
    for prefix in _PREFIXES:
        attention: Any = part_of(block, prefix + "attn1", name=name, family=family)
        processor = StreamSelfAttention.from_processor(attention.processor)
        processor.turn = fused_turn
        changes.set_processor(attention, processor)
        fuse_gelu(part_of(block, prefix + "ff", name=name, family=family), changes=changes)
    changes.set_forward(block, partial(fused_block, block))


def fused_turn(attn: Any, q_BLF: Tensor, k_BLF: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor]:
    """See `Turn`. The tables are (B, H, L, P), or with a number a channel (B, L, F)."""
    if attn.rope_type == "split":
        tables = rotary_of_pairs(*rotary)
    else:
        tables = rotary_of_channels(*(table.unflatten(2, (attn.heads, -1)) for table in rotary))
    return turned(attn, q_BLF, k_BLF, tables)


def fused_block(block: Any, *, hidden_states: Tensor, audio_hidden_states: Tensor, **given: Any) -> Any:
    """The arguments have diffusers' names."""
    skipped = {name: given.get(name) for name in ("perturbation_mask", "all_perturbed") if block.perturbed_attn}
    video = _Stream(block, "", _rows(block.scale_shift_table, given["temb"]))
    sound = _Stream(block, "audio_", _rows(block.audio_scale_shift_table, given["temb_audio"]))
    x = video.hear_itself(
        hidden_states, rotary=given["video_rotary_emb"], mask=given.get("self_attention_mask"), skipped=skipped
    )
    y = sound.hear_itself(
        audio_hidden_states, rotary=given["audio_rotary_emb"], mask=given.get("audio_self_attention_mask"),
        skipped=skipped,
    )  # fmt: skip
    x = video.hear(
        given["encoder_hidden_states"], x, time=given.get("temb_prompt"), mask=given.get("encoder_attention_mask")
    )
    y = sound.hear(
        given["audio_encoder_hidden_states"], y, time=given.get("temb_prompt_audio"),
        mask=given.get("audio_encoder_attention_mask"),
    )  # fmt: skip
    x, y = _hear_each_other(block, x, y, given)
    return video.feed_forward(x), sound.feed_forward(y)


@dataclass(frozen=True)
class _Stream:
    """One stream's way through its own parts of a block.

    `rows` are shift, scale and gate of attention, of the feed-forward and, in newer ones, of words: (B, 1 or L, C).
    """

    block: Any
    prefix: str
    rows: tuple[Tensor, ...]

    def hear_itself(self, x_BLC: Tensor, *, rotary: Rotary, mask: Tensor | None, skipped: dict[str, Any]) -> Tensor:
        attn, (shift, scale, gate) = self._part("attn1"), self.rows[:3]
        layers = [layer for layer in (attn.to_q, attn.to_k, attn.to_v, attn.to_gate_logits) if layer is not None]
        normed = normed_for(layers, x_BLC, scale=scale, shift=shift, eps=self._part("norm1").eps, centre=False)
        mixed = attn(
            hidden_states=normed, encoder_hidden_states=None, query_rotary_emb=rotary, attention_mask=mask, **skipped
        )
        out: Tensor = x_BLC + mixed * gate
        return out

    def hear(self, words: Tensor, x_BLC: Tensor, *, time: Tensor | None, mask: Tensor | None) -> Tensor:
        shift, scale, gate = self.rows[6:] or (None, None, None)
        normed = norm_modulate(x_BLC, scale=scale, shift=shift, eps=self._part("norm2").eps, centre=False)
        if self.block.cross_attn_adaln:
            table = self._part("prompt_scale_shift_table")
            rows = table[None, None].to(x_BLC).unbind(2) if time is None else _rows(table, time)
            words_shift, words_scale = rows
            words = words * (1 + words_scale) + words_shift
        mixed = self._part("attn2")(normed, encoder_hidden_states=words, query_rotary_emb=None, attention_mask=mask)
        out: Tensor = x_BLC + (mixed if gate is None else mixed * gate)
        return out

    def feed_forward(self, x_BLC: Tensor) -> Tensor:
        ff, (shift, scale, gate) = self._part("ff"), self.rows[3:6]
        normed = normed_for(ff.net[:1], x_BLC, scale=scale, shift=shift, eps=self._part("norm3").eps, centre=False)
        out: Tensor = x_BLC + ff(normed) * gate
        return out

    def _part(self, name: str) -> Any:
        return getattr(self.block, self.prefix + name)


def _hear_each_other(block: Any, x_BLC: Tensor, y_BLC: Tensor, given: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Picture from sound, then sound from picture, both as they were before."""
    to_video, to_sound = given["use_a2v_cross_attention"], given["use_v2a_cross_attention"]
    if not (to_video or to_sound):
        return x_BLC, y_BLC
    tables = (block.video_a2v_cross_attn_scale_shift_table, block.audio_a2v_cross_attn_scale_shift_table)
    times = (given["temb_ca_scale_shift"], given["temb_ca_audio_scale_shift"])
    gates = (given["temb_ca_gate"], given["temb_ca_audio_gate"])
    of_video, of_sound = (_rows(table[:4], time) for table, time in zip(tables, times, strict=True))
    video_gate, sound_gate = (_rows(table[4:], time)[0] for table, time in zip(tables, gates, strict=True))

    def normed(first: int) -> tuple[Tensor, Tensor]:
        """Both streams, modulated by the rows from `first` on: scale, shift."""
        norms = ((x_BLC, block.audio_to_video_norm, of_video), (y_BLC, block.video_to_audio_norm, of_sound))
        one, other = (
            norm_modulate(stream, scale=rows[first], shift=rows[first + 1], eps=norm.eps, centre=False)
            for stream, norm, rows in norms
        )
        return one, other

    places = {"video": given["ca_video_rotary_emb"], "sound": given["ca_audio_rotary_emb"]}
    x, y = x_BLC, y_BLC
    if to_video:
        video, sound = normed(0)
        x = x + video_gate * block.audio_to_video_attn(
            video,
            encoder_hidden_states=sound,
            query_rotary_emb=places["video"],
            key_rotary_emb=places["sound"],
            attention_mask=given.get("a2v_cross_attention_mask"),
        )
    if to_sound:
        video, sound = normed(2)
        y = y + sound_gate * block.video_to_audio_attn(
            sound,
            encoder_hidden_states=video,
            query_rotary_emb=places["sound"],
            key_rotary_emb=places["video"],
            attention_mask=given.get("v2a_cross_attention_mask"),
        )
    return x, y


def _rows(table: Tensor, time: Tensor) -> tuple[Tensor, ...]:
    """Rows of modulation, (B, 1 or L, C) each: a layer's own, and what the time says."""
    rows: Tensor = table[None, None].to(time.device) + time.unflatten(2, (table.shape[0], -1))
    return rows.unbind(2)
