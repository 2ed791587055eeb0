"""Single files of HunyuanVideo-1.5: its makers' names, ComfyUI's and diffusers'."""

from __future__ import annotations

import re

from homereel.core.errors import WeightsError
from homereel.models.single_file.family import Family, Figures, Shapes
from homereel.models.single_file.names import Renamed, Source, num_blocks, split_leaf, translate
from homereel.weights.original_names import HUNYUAN_OUTSIDE, HUNYUAN_SWAPPED

_REFINER = "txt_in.individual_token_refiner.blocks"
_OUTSIDE = {
    "double_blocks": "transformer_blocks",
    _REFINER: "context_embedder.token_refiner.refiner_blocks",
    **HUNYUAN_OUTSIDE,
}
_BLOCK = {
    "img_mod.linear": "norm1.linear",
    "txt_mod.linear": "norm1_context.linear",
    "img_attn_q": "attn.to_q",
    "img_attn_k": "attn.to_k",
    "img_attn_v": "attn.to_v",
    "img_attn_q_norm": "attn.norm_q",
    "img_attn_k_norm": "attn.norm_k",
    "img_attn_proj": "attn.to_out.0",
    "txt_attn_q": "attn.add_q_proj",
    "txt_attn_k": "attn.add_k_proj",
    "txt_attn_v": "attn.add_v_proj",
    "txt_attn_q_norm": "attn.norm_added_q",
    "txt_attn_k_norm": "attn.norm_added_k",
    "txt_attn_proj": "attn.to_add_out",
    "img_mlp.fc1": "ff.net.0.proj",
    "img_mlp.fc2": "ff.net.2",
    "txt_mlp.fc1": "ff_context.net.0.proj",
    "txt_mlp.fc2": "ff_context.net.2",
}
_REFINER_BLOCK = {
    "norm1": "norm1",
    "norm2": "norm2",
    "self_attn_q": "attn.to_q",
    "self_attn_k": "attn.to_k",
    "self_attn_v": "attn.to_v",
    "self_attn_proj": "attn.to_out.0",
    "mlp.fc1": "ff.net.0.proj",
    "mlp.fc2": "ff.net.2",
    "adaLN_modulation.1": "norm_out.linear",
}
# How ComfyUI calls the same, as patterns of its names and the makers' names for them.
_COMFY = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"_attn\.norm\.query_norm\.scale$", "_attn_q_norm.weight"),
        (r"_attn\.norm\.key_norm\.scale$", "_attn_k_norm.weight"),
        (r"_attn\.(qkv|proj)\.", r"_attn_\1."),
        (r"_mod\.lin\.", "_mod.linear."),
        (r"mlp\.0\.(?=weight|bias)", "mlp.fc1."),
        (r"mlp\.2\.(?=weight|bias)", "mlp.fc2."),
        (r"(time_in|time_r_in|txt_in\.t_embedder)\.in_layer\.", r"\1.mlp.0."),
        (r"(time_in|time_r_in|txt_in\.t_embedder)\.out_layer\.", r"\1.mlp.2."),
        (r"txt_in\.c_embedder\.in_layer\.", "txt_in.c_embedder.linear_1."),
        (r"txt_in\.c_embedder\.out_layer\.", "txt_in.c_embedder.linear_2."),
    )
)
_STEM = re.compile(r"(time_in|time_r_in|txt_in\.t_embedder)\.mlp\.")  # here "mlp.0" is the makers' own name


def _recognises(shapes: Shapes) -> bool:
    original = "cond_type_embedding.weight" in shapes and "double_blocks.0.img_mlp" in _stems(shapes)
    return original or ("cond_type_embed.weight" in shapes and "context_embedder_2.norm.weight" in shapes)


def _stems(shapes: Shapes) -> set[str]:
    return {".".join(name.split(".")[:3]) for name in shapes}


def _rename(shapes: Shapes) -> Renamed:
    if "cond_type_embed.weight" in shapes:  # diffusers' own names
        return Renamed({name: Source(name) for name in shapes})
    sources: dict[str, Source] = {}
    unknown = []
    inside = {"double_blocks": _BLOCK, _REFINER: _REFINER_BLOCK}
    for name in shapes:
        module, leaf = split_leaf(_makers_name(name))
        thirds = [module.removesuffix("qkv") + part for part in "qkv"] if module.endswith("_qkv") else [module]
        for index, part in enumerate(thirds):
            new = translate(part + leaf, outside=_OUTSIDE, inside=inside)
            if new is None:
                unknown.append(name)
                break
            swapped = new.startswith(HUNYUAN_SWAPPED)
            sources[new] = Source(name, third=index if len(thirds) == 3 else None, swapped=swapped)
    return Renamed(sources, unknown=tuple(unknown))


def _makers_name(name: str) -> str:
    if _STEM.match(name):
        return name
    for pattern, replacement in _COMFY:
        name = pattern.sub(replacement, name)
    return name


def _figures(shapes: Shapes) -> Figures:
    patch, head = shapes["x_embedder.proj.weight"], shapes["transformer_blocks.0.attn.norm_q.weight"][0]
    if len(patch) != 5 or patch[3] != patch[4] or not head or patch[0] % head:
        raise WeightsError(f"x_embedder.proj.weight of shape {patch} is none of HunyuanVideo-1.5")
    return {
        "width": patch[0],
        "in_channels": patch[1],
        "patch_size_t": patch[2],
        "patch_size": patch[3],
        "out_channels": shapes["proj_out.weight"][0] // (patch[2] * patch[3] ** 2),
        "num_attention_heads": patch[0] // head,
        "attention_head_dim": head,
        "num_layers": num_blocks(shapes, "transformer_blocks"),
        "num_refiner_layers": num_blocks(shapes, "context_embedder.token_refiner.refiner_blocks"),
        "mlp_ratio": shapes["transformer_blocks.0.ff.net.0.proj.weight"][0] / patch[0],
        "text_embed_dim": shapes["context_embedder.proj_in.weight"][1],
        "text_embed_2_dim": shapes["context_embedder_2.linear_1.weight"][1],
        "image_embed_dim": shapes["image_embedder.linear_1.weight"][1],
        "use_meanflow": "time_embed.timestep_embedder_r.linear_1.weight" in shapes,
    }


HUNYUAN = Family(
    name="hunyuanvideo-1.5",
    title="HunyuanVideo-1.5",
    pipelines=("HunyuanVideo15Pipeline", "HunyuanVideo15ImageToVideoPipeline"),
    recognises=_recognises,
    rename=_rename,
    network=lambda _: "HunyuanVideo15Transformer3DModel",
    figures=_figures,
    variant=lambda _: None,  # the variants differ in their numbers only, so the base must be named
    hidden=lambda _: None,
    strict=True,
)
