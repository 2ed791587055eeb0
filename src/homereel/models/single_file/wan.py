"""Single files of Wan 2.1 and 2.2: text, first frame, first and last frame, VACE; original names and diffusers'."""

from __future__ import annotations

import math
import re
from typing import Any

from homereel.core.errors import WeightsError
from homereel.models.single_file.family import Family, Figures, Shapes, Variant
from homereel.models.single_file.names import Renamed, Source, num_blocks, translate
from homereel.weights.model_folder import TUNED_PROJECTION
from homereel.weights.original_names import WAN_BLOCK, WAN_OUTSIDE, WAN_VACE_BLOCK

HEAD = 128  # of every published Wan; no shape tells it
_KNOWN = {(1536, 8960, 30), (5120, 13824, 40), (3072, 14336, 30)}  # width, feed forward, layers: 1.3B, 14B, 5B
_PATCH = (1, 2, 2)
# As TurboWan's files have it, for sparse attention that was tuned (arXiv 2509.24006).
_PROJECTION = re.compile(r"blocks\.([0-9]{1,6})\.self_attn\.attn_op\.local_attn\.proj_l\.(weight|bias)")


def _recognises(shapes: Shapes) -> bool:
    original = "head.modulation" in shapes and "blocks.0.self_attn.q.weight" in shapes
    return original or ("condition_embedder.time_proj.weight" in shapes and "blocks.0.attn1.to_q.weight" in shapes)


def _rename(shapes: Shapes) -> Renamed:
    if "head.modulation" not in shapes:  # diffusers' own names
        return Renamed({name: Source(name) for name in shapes})
    sources, projections, unknown = {}, {}, []
    inside = {"blocks": WAN_BLOCK, "vace_blocks": WAN_VACE_BLOCK}
    for name, shape in shapes.items():
        new = translate(name, outside=WAN_OUTSIDE, inside=inside)
        tuned = _PROJECTION.fullmatch(name)
        if tuned is not None:
            projections[f"blocks.{tuned[1]}.{TUNED_PROJECTION}.{tuned[2]}"] = Source(name)
        elif new is None:
            unknown.append(name)
        elif new == "patch_embedding.weight" and len(shape) == 2:  # as a Linear over flattened patches
            sources[new] = Source(name, shape=(shape[0], shape[1] // math.prod(_PATCH), *_PATCH))
        else:
            sources[new] = Source(name)
    return Renamed(sources, unknown=tuple(unknown), projections=projections)


def _network(shapes: Shapes) -> str:
    return "WanVACETransformer3DModel" if "vace_patch_embedding.weight" in shapes else "WanTransformer3DModel"


def _figures(shapes: Shapes) -> Figures:
    patch = shapes["patch_embedding.weight"]
    if len(patch) != 5:
        raise WeightsError(f"patch_embedding.weight has the shape {patch}; a Wan's has 5 sides")
    image = shapes.get("condition_embedder.image_embedder.norm1.weight")
    positions = shapes.get("condition_embedder.image_embedder.pos_embed")
    added = shapes.get("blocks.0.attn2.add_k_proj.weight")
    layers = num_blocks(shapes, "blocks")
    figures: Figures = {
        "width": patch[0],
        "in_channels": patch[1],
        "patch_size": list(patch[2:]),
        "out_channels": shapes["proj_out.weight"][0] // math.prod(patch[2:]),
        "text_dim": shapes["condition_embedder.text_embedder.linear_1.weight"][1],
        "freq_dim": shapes["condition_embedder.time_embedder.linear_1.weight"][1],
        "ffn_dim": shapes["blocks.0.ffn.net.0.proj.weight"][0],
        "num_layers": layers,
        "cross_attn_norm": "blocks.0.norm2.weight" in shapes,
        "qk_norm": "rms_norm_across_heads" if "blocks.0.attn1.norm_q.weight" in shapes else None,
        "image_dim": image[0] if image else None,
        "added_kv_proj_dim": added[1] if added else None,
        "pos_embed_seq_len": positions[1] if positions else None,
    }
    controls = shapes.get("vace_patch_embedding.weight")
    if controls:
        num_vace = num_blocks(shapes, "vace_blocks")
        if not num_vace or layers % num_vace:
            raise WeightsError(
                f"{num_vace} VACE blocks are not spread evenly over {layers} layers; fetch the file again"
            )
        figures["vace_layers"] = list(range(0, layers, layers // num_vace))
        figures["vace_in_channels"] = controls[1]
    return figures


def _variant(figures: Figures) -> Variant | None:
    inside, outside, width = figures["in_channels"], figures["out_channels"], figures["width"]
    if not _is_known(figures):
        return None
    large = width == 5120
    sees_picture, ends = figures["image_dim"] is not None, figures["pos_embed_seq_len"] is not None
    if "vace_layers" in figures:
        base = "wan2.1-vace-14b" if large else "wan2.1-vace-1.3b"
        return Variant("VACE", base, pipeline="WanVACEPipeline") if (inside, outside) == (16, 16) else None
    if (inside, outside, width) == (48, 48, 3072) and not sees_picture:
        return Variant("Wan2.2-TI2V-5B", "wan2.2-ti2v-5b", pipeline="WanPipeline", index={"expand_timesteps": True})
    if (inside, outside) == (16, 16) and not sees_picture:
        base = "wan2.1-t2v-14b" if large else "wan2.1-t2v-1.3b"
        experts = "wan2.2-t2v-a14b" if large else ""
        boundary = {"boundary_ratio": 0.875}
        return Variant("text to video", base, experts, pipeline="WanPipeline", experts_index=boundary)
    if (inside, outside) == (36, 16):
        base = "wan2.1-flf2v-14b" if ends else "wan2.1-i2v-14b-480p" if sees_picture else "wan2.2-i2v-a14b"
        experts = "" if sees_picture else "wan2.2-i2v-a14b"
        title = "first and last frame to video" if ends else "first frame to video"
        boundary = {"boundary_ratio": 0.9}
        return Variant(title, base, experts, pipeline="WanImageToVideoPipeline", experts_index=boundary)
    return None


def _hidden(figures: Figures) -> dict[str, Any] | None:
    if not _is_known(figures):
        return None
    heads = figures["width"] // HEAD
    return {"num_attention_heads": heads, "attention_head_dim": HEAD, "eps": 1e-6, "rope_max_seq_len": 1024}


def _is_known(figures: Figures) -> bool:
    return (figures["width"], figures["ffn_dim"], figures["num_layers"]) in _KNOWN


WAN = Family(
    name="wan",
    title="Wan",
    pipelines=("WanPipeline", "WanImageToVideoPipeline", "WanVACEPipeline", "WanVideoToVideoPipeline"),
    recognises=_recognises,
    rename=_rename,
    network=_network,
    figures=_figures,
    variant=_variant,
    hidden=_hidden,
    strict=False,
    keeps_int8=True,
)
