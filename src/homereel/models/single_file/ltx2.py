"""Single files of LTX-2, 2.3 and 2.5, video with sound: the makers' names, which ComfyUI has too, and diffusers'."""

from __future__ import annotations

import re

from homereel.models.single_file.family import Family, Figures, Shapes, Variant
from homereel.models.single_file.names import Renamed, Source, num_blocks

_FIRST = {  # what a name starts with
    "patchify_proj.": "proj_in.",
    "audio_patchify_proj.": "audio_proj_in.",
    "adaln_single.": "time_embed.",
    "audio_adaln_single.": "audio_time_embed.",
    "prompt_adaln_single.": "prompt_adaln.",
    "audio_prompt_adaln_single.": "audio_prompt_adaln.",
    "av_ca_video_scale_shift_adaln_single.": "av_cross_attn_video_scale_shift.",
    "av_ca_audio_scale_shift_adaln_single.": "av_cross_attn_audio_scale_shift.",
    "av_ca_a2v_gate_adaln_single.": "av_cross_attn_video_a2v_gate.",
    "av_ca_v2a_gate_adaln_single.": "av_cross_attn_audio_v2a_gate.",
}
_INSIDE = {
    "scale_shift_table_a2v_ca_video": "video_a2v_cross_attn_scale_shift_table",
    "scale_shift_table_a2v_ca_audio": "audio_a2v_cross_attn_scale_shift_table",
}
_NORM = re.compile(r"(?<=\.)(q|k)_norm(?=\.)")
_CONNECTORS = ("video_embeddings_connector.", "audio_embeddings_connector.")


def _recognises(shapes: Shapes) -> bool:
    original = "audio_patchify_proj.weight" in shapes and "patchify_proj.weight" in shapes
    return original or ("audio_proj_in.weight" in shapes and "av_cross_attn_video_a2v_gate.linear.weight" in shapes)


def _rename(shapes: Shapes) -> Renamed:
    sources, others = {}, {}
    for name in shapes:
        if name.startswith(_CONNECTORS):
            others[name] = "text connectors"
            continue
        first = next((first for first in _FIRST if name.startswith(first)), None)
        new = _FIRST[first] + name.removeprefix(first) if first else name
        head, dot, last = new.rpartition(".")
        if new.startswith("transformer_blocks."):
            new = _NORM.sub(r"norm_\1", head + dot + _INSIDE.get(last, last))
        sources[new] = Source(name)
    return Renamed(sources, others)


def _figures(shapes: Shapes) -> Figures:
    block = "transformer_blocks.0"
    width, audio_width = shapes["proj_in.weight"][0], shapes["audio_proj_in.weight"][0]
    captions = shapes.get("caption_projection.linear_1.weight")
    figures: Figures = {
        "width": width,
        "audio_width": audio_width,
        "in_channels": shapes["proj_in.weight"][1],
        "out_channels": shapes["proj_out.weight"][0],
        "audio_in_channels": shapes["audio_proj_in.weight"][1],
        "audio_out_channels": shapes["audio_proj_out.weight"][0],
        "cross_attention_dim": shapes[f"{block}.attn2.to_k.weight"][1],
        "audio_cross_attention_dim": shapes[f"{block}.audio_attn2.to_k.weight"][1],
        "num_layers": num_blocks(shapes, "transformer_blocks"),
        "use_prompt_embeddings": captions is not None,
        "gated_attn": f"{block}.attn1.to_gate_logits.weight" in shapes,
        "audio_gated_attn": f"{block}.audio_attn1.to_gate_logits.weight" in shapes,
        "cross_attn_mod": shapes[f"{block}.scale_shift_table"][0] == 9,
        "audio_cross_attn_mod": shapes[f"{block}.audio_scale_shift_table"][0] == 9,
        "ff_bias": f"{block}.ff.net.2.bias" in shapes,
        "audio_ff_bias": f"{block}.audio_ff.net.2.bias" in shapes,
        "use_keyframes_abs_pos_embedding": "keyframes_abs_pos_embedding" in shapes,
    }
    if figures["cross_attn_mod"] or figures["audio_cross_attn_mod"]:
        figures["use_prompt_adaln_single"] = "prompt_adaln.linear.weight" in shapes
    if captions:
        figures["caption_channels"] = captions[1]
    return figures


LTX2 = Family(
    name="ltx-2",
    title="LTX-2",
    pipelines=("LTX2Pipeline", "LTX2ImageToVideoPipeline", "LTX2ConditionPipeline"),
    recognises=_recognises,
    rename=_rename,
    network=lambda _: "LTX2VideoTransformer3DModel",
    figures=_figures,
    variant=lambda _: Variant("video with sound", "ltx-2.5"),
    hidden=lambda _: None,
    strict=True,
)
