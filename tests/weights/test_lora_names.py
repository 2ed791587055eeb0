"""The tables of names, compared with diffusers' networks and with its own converters."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from homereel.weights.lora.apply import apply_loras
from homereel.weights.lora.names import find_targets
from tests.tiny_loras import (
    RANK,
    assert_same_weights,
    lora_of,
)


@pytest.mark.parametrize("layout", ["kohya", "comfyui", "comfyui down"])
def test_names_are_those_of_diffusers_converters(tmp_path: Path, network: nn.Module, layout: str) -> None:
    """Its converter for kohya wants every layer of a block, so all of them are given here."""
    from diffusers.loaders import lora_conversion_utils as theirs

    tensors = all_of_a_block(layout, network)
    lora = lora_of(tmp_path, tensors)
    convert = (
        theirs._convert_musubi_wan_lora_to_diffusers
        if layout == "kohya"
        else theirs._convert_non_diffusers_wan_lora_to_diffusers
    )
    converted = convert({key: tensor.clone() for key, tensor in tensors.items()})
    expected = copy.deepcopy(network)
    for key, down in converted.items():
        if key.endswith(".lora_A.weight"):
            layer = key.removeprefix("transformer.").removesuffix(".lora_A.weight")
            up = converted[key.replace("lora_A", "lora_B")]
            expected.get_parameter(f"{layer}.weight").add_(up @ down)
    assert apply_loras(network, [(lora, 1.0)]).warnings == ()
    assert_same_weights(network, expected)


def all_of_a_block(layout: str, network: nn.Module) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    names = [f"{part}.{layer}" for part in ("self_attn", "cross_attn") for layer in "qkvo"]
    names += ["cross_attn.k_img", "cross_attn.v_img", "ffn.0", "ffn.2"]
    tensors = {}
    for block in range(2):
        for name in names:
            wide = 32 if name == "ffn.0" else 24
            deep = 32 if name == "ffn.2" else 24
            whole = f"blocks.{block}.{name}"
            base = f"lora_unet_{whole.replace('.', '_')}" if layout == "kohya" else f"diffusion_model.{whole}"
            down, up = ("lora_A", "lora_B") if layout == "comfyui" else ("lora_down", "lora_up")
            tensors[f"{base}.{down}.weight"] = torch.randn(RANK, deep, generator=generator)
            tensors[f"{base}.{up}.weight"] = torch.randn(wide, RANK, generator=generator)
            tensors[f"{base}.alpha"] = torch.tensor(3.0)
    return tensors


FAMILY_NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "wan": ("WanTransformer3DModel", {"image_dim": 8, "added_kv_proj_dim": 5120, "pos_embed_seq_len": 514}),
    "hunyuanvideo-1.5": ("HunyuanVideo15Transformer3DModel", {"num_refiner_layers": 1, "use_meanflow": True}),
    "ltx-2": ("LTX2VideoTransformer3DModel", {"gated_attn": True, "audio_gated_attn": True, "cross_attn_mod": True}),
}


@pytest.mark.parametrize("family", FAMILY_NETWORKS)
def test_tables_know_every_layer_of_a_network_and_no_other(family: str) -> None:
    import diffusers

    from homereel.weights.lora import names as lora_names

    kind, config = FAMILY_NETWORKS[family]
    with torch.device("meta"):
        network = getattr(diffusers, kind)(num_layers=1, **config)
    real = {name.removesuffix(".weight").removesuffix(".bias") for name, _ in network.named_parameters()}
    theirs = [name.replace("#", "0") for name in lora_names._FAMILIES[family]]
    meant = {target.layer for name in theirs for target in find_targets(name, family=family)}
    assert real - meant == set()
    beyond = {name for name in meant - real if not name.startswith("vace_")}
    assert beyond <= {"text_proj_in"}  # in LTX-2's connectors
    for name in real:
        assert find_targets(name, family=family)[0].layer == name or family == "wan"
        assert find_targets(name.replace(".", "_"), family=family)


def test_ltx2_is_named_as_diffusers_converter_does(tmp_path: Path) -> None:
    from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_ltx2_lora_to_diffusers

    from homereel.weights.lora import names as lora_names

    names = [name.replace("#", "3") for name in lora_names._LTX if name != "aggregate_embed"]
    converted = _convert_non_diffusers_ltx2_lora_to_diffusers({f"diffusion_model.{name}.": name for name in names})
    ours = {f"transformer.{find_targets(name, family='ltx-2')[0].layer}.": name for name in names}
    assert ours == converted
