"""What a layer is called by its makers, by trainers and by diffusers: tables of names, one a family.

A LoRA may use the makers' names (ComfyUI, lightx2v), these with _ for each dot (kohya, musubi), or diffusers' own,
which are the ones of the loaded networks. In a table # stands for a block's number. Where the makers keep several
layers in one, such as query, key and value, each of diffusers' layers is a share of its rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from homereel.weights.original_names import HUNYUAN_OUTSIDE, HUNYUAN_SWAPPED, WAN_BLOCK, WAN_OUTSIDE, WAN_VACE_BLOCK

_NUMBER_DOTTED = re.compile(r"\.\d+(?=\.|$)")
_NUMBER_FLAT = re.compile(r"_\d+(?=_|$)")


@dataclass(frozen=True)
class Target:
    """A layer of the network by diffusers' name, and which of the `parts` of the LoRA's output rows are for it.

    `swapped` exchanges the halves of the rows: the makers keep shift before scale there, diffusers scale before shift.
    """

    layer: str
    part: int = 0
    parts: int = 1
    swapped: bool = False


def find_targets(name: str, *, family: str) -> tuple[Target, ...]:
    """The layers that a name in a file means in the networks of a family; empty if it is none of its names."""
    general, number = _general_name(name, family=family)
    return tuple(
        Target(target.layer.replace("#", number), target.part, target.parts, target.swapped)
        for target in _spellings(family).get(general, ())
    )


def is_diffusers_name(name: str, *, family: str) -> bool:
    """Whether the name is diffusers' own, and not also the makers'."""
    general, _ = _general_name(name, family=family)
    return general not in _FAMILIES[family] and any(
        target.layer == name for target in find_targets(name, family=family)
    )


def _general_name(name: str, *, family: str) -> tuple[str, str]:
    """The name as the tables have it, with # for its block's number, and that number."""
    found = (_NUMBER_DOTTED if "." in name else _NUMBER_FLAT).search(name)
    if found is None or name in _spellings(family):
        return name, ""
    return f"{name[: found.start() + 1]}#{name[found.end() :]}", found.group()[1:]


@cache
def _spellings(family: str) -> Mapping[str, tuple[Target, ...]]:
    """All spellings of a family's names; the makers' own come first where two are the same."""
    table = _FAMILIES[family]
    spellings: dict[str, tuple[Target, ...]] = dict(table)
    for targets in table.values():
        for target in targets:
            spellings.setdefault(target.layer, (Target(target.layer),))
    for name, targets in list(spellings.items()):
        spellings.setdefault(name.replace(".", "_"), targets)
    return spellings


def _one(names: Mapping[str, str]) -> dict[str, tuple[Target, ...]]:
    return {theirs: (Target(ours),) for theirs, ours in names.items()}


def _in_blocks(names: Mapping[str, str], *, theirs: str, ours: str) -> dict[str, tuple[Target, ...]]:
    return _one({f"{theirs}.#.{name}": f"{ours}.#.{target}" for name, target in names.items()})


def _shares(theirs: str, *ours: str) -> dict[str, tuple[Target, ...]]:
    return {theirs: tuple(Target(layer, part, len(ours)) for part, layer in enumerate(ours))}


_WAN = {
    **_one(WAN_OUTSIDE),
    **_in_blocks(WAN_BLOCK, theirs="blocks", ours="blocks"),
    **_in_blocks(WAN_VACE_BLOCK, theirs="vace_blocks", ours="vace_blocks"),
}

_HUNYUAN_STREAMS = {
    "img": ("norm1", "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "attn.norm_q", "attn.norm_k", "ff"),
    "txt": (
        "norm1_context",
        "attn.add_q_proj",
        "attn.add_k_proj",
        "attn.add_v_proj",
        "attn.to_add_out",
        "attn.norm_added_q",
        "attn.norm_added_k",
        "ff_context",
    ),
}


def _hunyuan_block() -> dict[str, tuple[Target, ...]]:
    """Both spellings: that of the makers, and that of ComfyUI, which keeps query, key and value in one."""
    names: dict[str, tuple[Target, ...]] = {}
    theirs, ours = "double_blocks.#.", "transformer_blocks.#."
    for stream, layers in _HUNYUAN_STREAMS.items():
        norm, *attention, feed_forward = (ours + layer for layer in layers)
        query, key, value, out, norm_query, norm_key = attention
        here = theirs + stream
        names |= _one(
            {
                f"{here}_mod.linear": f"{norm}.linear",
                f"{here}_mod.lin": f"{norm}.linear",
                f"{here}_attn_q": query,
                f"{here}_attn_k": key,
                f"{here}_attn_v": value,
                f"{here}_attn_proj": out,
                f"{here}_attn.proj": out,
                f"{here}_attn_q_norm": norm_query,
                f"{here}_attn_k_norm": norm_key,
                f"{here}_attn.norm.query_norm": norm_query,
                f"{here}_attn.norm.key_norm": norm_key,
                f"{here}_mlp.fc1": f"{feed_forward}.net.0.proj",
                f"{here}_mlp.fc2": f"{feed_forward}.net.2",
                f"{here}_mlp.0": f"{feed_forward}.net.0.proj",
                f"{here}_mlp.2": f"{feed_forward}.net.2",
            }
        )
        names |= _shares(f"{here}_attn_qkv", query, key, value) | _shares(f"{here}_attn.qkv", query, key, value)
    return names


def _hunyuan_refiner() -> dict[str, tuple[Target, ...]]:
    theirs = "txt_in.individual_token_refiner.blocks.#."
    ours = "context_embedder.token_refiner.refiner_blocks.#."
    projections = [f"{ours}attn.to_{name}" for name in "qkv"]
    return {
        **_one({f"{theirs}{norm}": f"{ours}{norm}" for norm in ("norm1", "norm2")}),
        **_one({f"{theirs}self_attn{dot}proj": f"{ours}attn.to_out.0" for dot in "_."}),
        **_one({f"{theirs}mlp.{first}": f"{ours}ff.net.0.proj" for first in ("fc1", "0")}),
        **_one({f"{theirs}mlp.{second}": f"{ours}ff.net.2" for second in ("fc2", "2")}),
        **_one({f"{theirs}adaLN_modulation.1": f"{ours}norm_out.linear"}),
        **_shares(f"{theirs}self_attn_qkv", *projections),
        **_shares(f"{theirs}self_attn.qkv", *projections),
    }


def _hunyuan_times() -> dict[str, tuple[Target, ...]]:
    """Other spellings of the two layers that take a time, or the text as a whole."""
    spellings = (("mlp.0", "mlp.2"), ("in_layer", "out_layer"), ("linear_1", "linear_2"))
    return {
        theirs.removesuffix(makers) + spelling: (Target(ours),)
        for theirs, ours in HUNYUAN_OUTSIDE.items()
        for number in (0, 1)
        for makers in (spellings[0][number], spellings[2][number])
        if theirs.endswith("." + makers) and theirs.startswith(("time_in", "time_r_in", "txt_in"))
        for spelling in (each[number] for each in spellings)
    }


_HUNYUAN = {
    **{theirs: (Target(ours, swapped=ours == HUNYUAN_SWAPPED),) for theirs, ours in HUNYUAN_OUTSIDE.items()},
    **_hunyuan_times(),
    **_hunyuan_refiner(),
    **_hunyuan_block(),
}

_LTX_MODULATIONS = {
    "adaln_single": "time_embed",
    "audio_adaln_single": "audio_time_embed",
    "prompt_adaln_single": "prompt_adaln",
    "audio_prompt_adaln_single": "audio_prompt_adaln",
    "av_ca_video_scale_shift_adaln_single": "av_cross_attn_video_scale_shift",
    "av_ca_audio_scale_shift_adaln_single": "av_cross_attn_audio_scale_shift",
    "av_ca_a2v_gate_adaln_single": "av_cross_attn_video_a2v_gate",
    "av_ca_v2a_gate_adaln_single": "av_cross_attn_audio_v2a_gate",
}
_LTX_ATTENTIONS = ("attn1", "attn2", "audio_attn1", "audio_attn2", "audio_to_video_attn", "video_to_audio_attn")
_LTX_ATTENTION = {
    **{name: name for name in ("to_q", "to_k", "to_v", "to_out.0", "to_gate_logits")},
    "q_norm": "norm_q",
    "k_norm": "norm_k",
}
_LTX_BLOCK = {
    **{
        f"{attention}.{theirs}": f"{attention}.{ours}"
        for attention in _LTX_ATTENTIONS
        for theirs, ours in _LTX_ATTENTION.items()
    },
    **{
        f"{forward}.net.{layer}": f"{forward}.net.{layer}"
        for forward in ("ff", "audio_ff")
        for layer in ("0.proj", "2")
    },
    **{
        f"{stream}{table}": f"{stream}{table}"
        for stream in ("", "audio_")
        for table in ("scale_shift_table", "prompt_scale_shift_table")
    },
    "scale_shift_table_a2v_ca_video": "video_a2v_cross_attn_scale_shift_table",
    "scale_shift_table_a2v_ca_audio": "audio_a2v_cross_attn_scale_shift_table",
}
_LTX = {
    **_one(
        {
            f"{theirs}.{layer}": f"{ours}.{layer}"
            for theirs, ours in _LTX_MODULATIONS.items()
            for layer in ("linear", "emb.timestep_embedder.linear_1", "emb.timestep_embedder.linear_2")
        }
    ),
    **_one(
        {
            name: name
            for stream in ("", "audio_")
            for name in (
                f"{stream}caption_projection.linear_1",
                f"{stream}caption_projection.linear_2",
                f"{stream}proj_out",
                f"{stream}scale_shift_table",
            )
        }
    ),
    **_one({"patchify_proj": "proj_in", "audio_patchify_proj": "audio_proj_in", "aggregate_embed": "text_proj_in"}),
    **_in_blocks(_LTX_BLOCK, theirs="transformer_blocks", ours="transformer_blocks"),
}

_FAMILIES: dict[str, dict[str, tuple[Target, ...]]] = {"wan": _WAN, "hunyuanvideo-1.5": _HUNYUAN, "ltx-2": _LTX}
FAMILIES = tuple(_FAMILIES)
