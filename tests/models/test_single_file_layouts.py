"""Names and configurations of the layouts that models are published in: each tensor finds its place in diffusers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    HunyuanVideo15Transformer3DModel,
    LTX2VideoTransformer3DModel,
    WanTransformer3DModel,
    WanVACETransformer3DModel,
)
from diffusers.loaders import single_file_utils

from homereel.core.errors import InvalidRequest, WeightsError
from homereel.models.single_file.config import Reference, settle_config
from homereel.models.single_file.identify import FAMILIES, Network, find_network
from homereel.models.single_file.import_model import import_model
from homereel.weights.scaled import Weights
from tests.models.original_names import State, original_state, original_wan, save

PREFIX = "model.diffusion_model."


def on_meta(network_class: Any, **config: Any) -> Any:
    with torch.device("meta"):
        return network_class(**config)


REAL: dict[str, dict[str, Any]] = {
    "wan2.1-t2v-1.3b": {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30},
    "wan2.1-t2v-14b": {},
    "wan2.1-i2v-14b-480p": {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120},
    "wan2.1-flf2v-14b": {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120, "pos_embed_seq_len": 514},
    "wan2.2-i2v-a14b": {"in_channels": 36},
    "wan2.2-ti2v-5b": {
        "in_channels": 48,
        "out_channels": 48,
        "num_attention_heads": 24,
        "ffn_dim": 14336,
        "num_layers": 30,
    },
    "wan2.1-vace-1.3b": {
        "num_attention_heads": 12,
        "ffn_dim": 8960,
        "num_layers": 30,
        "vace_layers": list(range(0, 30, 2)),
    },
    "wan2.1-vace-14b": {"vace_layers": list(range(0, 40, 5))},
}


def published_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """All tensors of a published Wan under its makers' names, from a network of one layer."""
    vace = config.get("vace_layers", [])
    kind: Any = WanVACETransformer3DModel if vace else WanTransformer3DModel
    built = on_meta(kind, **{**config, "num_layers": 1, **({"vace_layers": [0]} if vace else {})})
    shapes = {original_wan(name): tuple(tensor.shape) for name, tensor in built.state_dict().items()}
    for name, shape in list(shapes.items()):
        for blocks, count in (("blocks", config.get("num_layers", 40)), ("vace_blocks", len(vace))):
            if name.startswith(f"{blocks}.0.") and "before_proj" not in name:
                shapes.update({name.replace(".0.", f".{number}.", 1): shape for number in range(count)})
    return shapes


@pytest.mark.parametrize("model", REAL)
def test_the_published_models_are_known_by_their_shapes(model: str) -> None:
    shapes = published_shapes(REAL[model])
    family = next(family for family in FAMILIES if family.recognises(shapes))
    weights = Weights(shapes, dict.fromkeys(shapes, "BF16"), (), None, {}, {})  # type: ignore[arg-type]
    found = Network("a", family, "", {}, family.rename(shapes).sources, weights, (), {})
    named = found.shapes()
    found = dataclasses.replace(found, class_name=family.network(named), figures=family.figures(named))
    variant = family.variant(found.figures)
    assert variant is not None
    assert variant.base == model
    config = settle_config(found, None)
    default = {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40, "in_channels": 16, "out_channels": 16}
    common = {"attention_head_dim": 128, "text_dim": 4096, "freq_dim": 256, "patch_size": [1, 2, 2], "eps": 1e-6}
    for key, value in {**default, **common, "image_dim": None, "cross_attn_norm": True, **REAL[model]}.items():
        assert config[key] == value, key


def test_diffusers_renames_wan_alike() -> None:
    for kind, extra in ((WanTransformer3DModel, []), (WanVACETransformer3DModel, [("vace_layers", [0, 1])])):
        built = on_meta(kind, num_layers=2, image_dim=1280, added_kv_proj_dim=5120, **dict(extra))
        shapes = {original_wan(name): tuple(tensor.shape) for name, tensor in built.state_dict().items()}
        ours = {new: source.name for new, source in FAMILIES[0].rename(shapes).sources.items()}
        assert (
            single_file_utils.convert_wan_transformer_to_diffusers({name: name_tensor(name) for name in shapes}) == ours
        )


class name_tensor(str):  # noqa: N801
    """A name in the place of a tensor; the converter only moves it."""


TINY_HUNYUAN: dict[str, Any] = {
    "in_channels": 9,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_layers": 2,
    "num_refiner_layers": 1,
    "text_embed_dim": 12,
    "text_embed_2_dim": 10,
    "image_embed_dim": 8,
    "rope_axes_dim": (4, 6, 6),
    "task_type": "t2v",
    "use_meanflow": True,
}
_HUNYUAN = (
    ("time_embed.timestep_embedder_r.linear_1", "time_r_in.mlp.0"),
    ("time_embed.timestep_embedder_r.linear_2", "time_r_in.mlp.2"),
    ("context_embedder.time_text_embed.timestep_embedder.linear_1", "txt_in.t_embedder.mlp.0"),
    ("context_embedder.time_text_embed.timestep_embedder.linear_2", "txt_in.t_embedder.mlp.2"),
    ("context_embedder.time_text_embed.text_embedder.linear_", "txt_in.c_embedder.linear_"),
    ("time_embed.timestep_embedder.linear_1", "time_in.mlp.0"),
    ("time_embed.timestep_embedder.linear_2", "time_in.mlp.2"),
    ("context_embedder.proj_in", "txt_in.input_embedder"),
    ("context_embedder_2.norm", "byt5_in.layernorm"),
    ("context_embedder_2.linear_", "byt5_in.fc"),
    ("image_embedder.norm_in", "vision_in.proj.0"),
    ("image_embedder.linear_1", "vision_in.proj.1"),
    ("image_embedder.linear_2", "vision_in.proj.3"),
    ("image_embedder.norm_out", "vision_in.proj.4"),
    ("x_embedder.proj", "img_in.proj"),
    ("cond_type_embed.", "cond_type_embedding."),
    ("context_embedder.token_refiner.refiner_blocks.", "txt_in.individual_token_refiner.blocks."),
    ("norm1_context.linear", "txt_mod.linear"),
    ("norm1.linear", "img_mod.linear"),
    ("attn.add_q_proj", "txt_attn_q"),
    ("attn.add_k_proj", "txt_attn_k"),
    ("attn.add_v_proj", "txt_attn_v"),
    ("attn.norm_added_", "txt_attn_"),
    ("attn.to_add_out", "txt_attn_proj"),
    ("ff_context.net.0.proj", "txt_mlp.fc1"),
    ("ff_context.net.2", "txt_mlp.fc2"),
)


def makers_hunyuan(state: State) -> State:
    """HunyuanVideo-1.5 as its makers have it: the refiner's queries, keys and values in one, shift before scale."""
    made: State = {}
    for name, tensor in state.items():
        new = name
        for ours, theirs in _HUNYUAN:
            new = new.replace(ours, theirs)
        if new.startswith("txt_in.individual_token_refiner"):
            new = new.replace("norm_out.linear", "adaLN_modulation.1").replace("ff.net.0.proj", "mlp.fc1")
            new = new.replace("ff.net.2", "mlp.fc2").replace("attn.to_out.0", "self_attn_proj")
            if ".attn.to_" in new:
                kind = new.split("attn.to_")[1][0]
                stem = new.replace(f"attn.to_{kind}", "self_attn_qkv")
                made.setdefault(stem, torch.zeros(3 * tensor.shape[0], *tensor.shape[1:]))
                first = "qkv".index(kind) * tensor.shape[0]
                made[stem][first : first + tensor.shape[0]] = tensor
                continue
        elif new.startswith("norm_out."):
            new = new.replace("norm_out.linear", "final_layer.adaLN_modulation.1")
            tensor = torch.cat([tensor[tensor.shape[0] // 2 :], tensor[: tensor.shape[0] // 2]])  # noqa: PLW2901
        elif new.startswith("proj_out."):
            new = new.replace("proj_out", "final_layer.linear")
        else:
            new = new.replace("transformer_blocks.", "double_blocks.").replace("attn.to_out.0", "img_attn_proj")
            new = new.replace("attn.to_", "img_attn_").replace("attn.norm_", "img_attn_")
            new = new.replace("ff.net.0.proj", "img_mlp.fc1").replace("ff.net.2", "img_mlp.fc2")
            for kind in "qk":
                for stream in ("img", "txt"):
                    is_norm = tensor.ndim == 1 and tensor.shape[0] == 16
                    if is_norm and new.endswith(f"{stream}_attn_{kind}.weight"):
                        new = new.replace(f"attn_{kind}.weight", f"attn_{kind}_norm.weight")
        made[new] = tensor.clone()
    return made


def comfy_hunyuan(state: State) -> State:
    """The same as ComfyUI calls it, with queries, keys and values in one everywhere."""
    made: State = {}
    for name, tensor in state.items():
        new = name
        for stream in ("img", "txt"):
            for kind in "qkv":
                if f"{stream}_attn_{kind}." in name:
                    new = name.replace(f"{stream}_attn_{kind}.", f"{stream}_attn.qkv.")
                    made.setdefault(new, torch.zeros(3 * tensor.shape[0], *tensor.shape[1:]))
                    first = "qkv".index(kind) * tensor.shape[0]
                    made[new][first : first + tensor.shape[0]] = tensor
            new = new.replace(f"{stream}_attn_q_norm.weight", f"{stream}_attn.norm.query_norm.scale")
            new = new.replace(f"{stream}_attn_k_norm.weight", f"{stream}_attn.norm.key_norm.scale")
            new = new.replace(f"{stream}_attn_proj.", f"{stream}_attn.proj.").replace("_mod.linear.", "_mod.lin.")
        new = new.replace("self_attn_qkv.", "self_attn.qkv.").replace("self_attn_proj.", "self_attn.proj.")
        new = new.replace("mlp.fc1.", "mlp.0.").replace("mlp.fc2.", "mlp.2.")
        for start in ("time_in", "time_r_in", "txt_in.t_embedder"):
            new = new.replace(f"{start}.mlp.0.", f"{start}.in_layer.").replace(f"{start}.mlp.2.", f"{start}.out_layer.")
        new = new.replace("c_embedder.linear_1.", "c_embedder.in_layer.")
        new = new.replace("c_embedder.linear_2.", "c_embedder.out_layer.")
        if "qkv" not in new or new not in made:
            made[new] = tensor
    return made


@pytest.mark.parametrize("layout", ["makers", "comfy", "diffusers"])
def test_hunyuanvideo(tmp_path: Path, layout: str) -> None:
    built = HunyuanVideo15Transformer3DModel(**TINY_HUNYUAN)
    own = dict(built.state_dict())
    stored = makers_hunyuan(own)
    assert len(stored) == len(own) - 4, "three tensors became one, twice"
    file = save(
        {"makers": stored, "comfy": comfy_hunyuan(stored), "diffusers": own}[layout], tmp_path / "a.safetensors"
    )
    found = find_network([file])
    assert found.family.name == "hunyuanvideo-1.5"
    config = settle_config(found, Reference("base", dict(built.config)))
    assert {key: config[key] for key in TINY_HUNYUAN} == TINY_HUNYUAN
    assert found.sources.keys() == own.keys()
    for name, tensor in own.items():
        assert torch.equal(found.read(name), tensor), name
    with pytest.raises(WeightsError, match="use_meanflow True where base has False"):
        settle_config(found, Reference("base", {**built.config, "use_meanflow": False}))
    with pytest.raises(InvalidRequest, match=r"hunyuanvideo-1\.5-480p-t2v"):
        import_model([file])


TINY_LTX: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 16,
    "audio_in_channels": 6,
    "audio_out_channels": 6,
    "audio_num_attention_heads": 2,
    "audio_attention_head_dim": 4,
    "audio_cross_attention_dim": 8,
    "num_layers": 2,
    "caption_channels": 16,
}
_LATER = {"gated_attn": True, "audio_gated_attn": True, "cross_attn_mod": True, "audio_cross_attn_mod": True}
_LTX = (
    ("audio_prompt_adaln.", "audio_prompt_adaln_single."),
    ("audio_time_embed.", "audio_adaln_single."),
    ("audio_proj_in.", "audio_patchify_proj."),
    ("av_cross_attn_video_scale_shift.", "av_ca_video_scale_shift_adaln_single."),
    ("av_cross_attn_audio_scale_shift.", "av_ca_audio_scale_shift_adaln_single."),
    ("av_cross_attn_video_a2v_gate.", "av_ca_a2v_gate_adaln_single."),
    ("av_cross_attn_audio_v2a_gate.", "av_ca_v2a_gate_adaln_single."),
    ("video_a2v_cross_attn_scale_shift_table", "scale_shift_table_a2v_ca_video"),
    ("audio_a2v_cross_attn_scale_shift_table", "scale_shift_table_a2v_ca_audio"),
    ("norm_q", "q_norm"),
    ("norm_k", "k_norm"),
)
_LTX_START = (
    ("proj_in.", "patchify_proj."),
    ("time_embed.", "adaln_single."),
    ("prompt_adaln.", "prompt_adaln_single."),
)


def original_ltx(name: str) -> str:
    for new, old in _LTX_START:
        if name.startswith(new):
            return old + name.removeprefix(new)
    for new, old in _LTX:
        name = name.replace(new, old)
    return name


@pytest.mark.parametrize(
    "extra", [{}, {**_LATER, "use_prompt_embeddings": False, "use_keyframes_abs_pos_embedding": True, "ff_bias": False}]
)
def test_ltx(tmp_path: Path, extra: dict[str, Any]) -> None:
    built = LTX2VideoTransformer3DModel(**TINY_LTX, **extra)
    stored = original_state(built, original_ltx)
    others = {"video_embeddings_connector.x.weight": torch.ones(1)}
    parts = {PREFIX + name: tensor for name, tensor in {**stored, **others}.items()}
    file = save({**parts, "vocoder.x": torch.ones(1), "audio_vae.x": torch.ones(1)}, tmp_path / "a.safetensors")
    found = find_network([file])
    assert found.family.name == "ltx-2"
    assert found.not_used == {"vocoder": 1, "audio VAE": 1, "text connectors": 1}
    config = settle_config(found, Reference("base", dict(built.config)))
    assert config["gated_attn"] is bool(extra)
    for name, tensor in built.state_dict().items():
        assert torch.equal(found.read(name), tensor), name
    with pytest.raises(WeightsError, match="cross_attn_mod"):
        settle_config(found, Reference("base", {**built.config, "cross_attn_mod": not extra}))
    with pytest.raises(WeightsError, match=r"models pull ltx-2\.5"):
        import_model([file])
    if not extra:  # diffusers' converter knows the first version only
        renamed = single_file_utils.convert_ltx2_transformer_to_diffusers({name: name for name in stored})
        assert renamed == {new: source.name for new, source in found.sources.items()}
