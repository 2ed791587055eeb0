"""LoRAs in every layout, matched and merged: compared with sums made by hand."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from homereel.core.errors import InvalidRequest, WeightsError
from homereel.weights.lora.apply import apply_loras, network_shapes
from homereel.weights.lora.match import match_lora
from homereel.weights.lora.report import inspect_lora
from homereel.weights.lora.settings import lora_expert
from tests.tiny_loras import (
    LAYERS,
    LAYOUTS,
    RANK,
    assert_accounted,
    assert_close,
    assert_same_weights,
    factors,
    in_layout,
    lora_of,
    merged_by_hand,
    run_wan,
)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("alpha", [None, 2.0])
def test_every_layout_is_known_and_merged(tmp_path: Path, network: nn.Module, layout: str, alpha: float | None) -> None:
    lora = lora_of(tmp_path, in_layout(layout, factors(network), alpha=alpha))
    report = inspect_lora(lora.path)
    assert (report.format, report.family) == (LAYOUTS[layout], "wan")
    assert (report.ranks, report.alphas) == ((RANK,), () if alpha is None else (alpha,))
    assert report.num_layers == len(LAYERS)
    match = match_lora(lora, network_shapes(network))
    assert_accounted(lora, match)
    assert match.unmatched == ()
    expected = merged_by_hand(network, factor=0.7 * (1 if alpha is None else alpha / RANK))
    applied = apply_loras(network, [(lora, 0.7)])
    assert (applied.warnings, applied.num_merged) == ((), len(LAYERS))
    assert_same_weights(network, expected)
    torch.testing.assert_close(run_wan(network), run_wan(expected), rtol=1e-4, atol=1e-5)  # two blocks deep


def test_the_clip_changes(tmp_path: Path, network: nn.Module) -> None:
    before = run_wan(network)
    apply_loras(network, [(lora_of(tmp_path, in_layout("kohya", factors(network))), 1.0)])
    assert not torch.allclose(run_wan(network), before, atol=1e-3)


def test_as_peft_itself_has_it(tmp_path: Path, network: nn.Module) -> None:
    pytest.importorskip("peft")
    tensors: Any = in_layout("diffusers", factors(network))
    expected: Any = copy.deepcopy(network)
    expected.load_lora_adapter(dict(tensors), prefix="transformer")
    apply_loras(network, [(lora_of(tmp_path, tensors), 1.0)])
    torch.testing.assert_close(run_wan(network), run_wan(expected), rtol=1e-4, atol=1e-5)


def test_differences_of_lightx2v_are_added(tmp_path: Path, network: nn.Module) -> None:
    """Norms, biases, the tables of modulation and the patches: much of it is what diffusers leaves out."""
    wanted = {
        "blocks.0.norm3.diff": "blocks.0.norm2.weight",
        "blocks.0.norm3.diff_b": "blocks.0.norm2.bias",
        "blocks.1.self_attn.norm_q.diff": "blocks.1.attn1.norm_q.weight",
        "blocks.1.cross_attn.norm_k_img.diff": "blocks.1.attn2.norm_added_k.weight",
        "blocks.0.self_attn.q.diff": "blocks.0.attn1.to_q.weight",
        "blocks.0.self_attn.q.diff_b": "blocks.0.attn1.to_q.bias",
        "blocks.0.diff_m": "blocks.0.scale_shift_table",
        "head.diff_m": "scale_shift_table",
        "head.head.diff": "proj_out.weight",
        "head.head.diff_b": "proj_out.bias",
        "img_emb.proj.0.diff": "condition_embedder.image_embedder.norm1.weight",
        "patch_embedding.diff": "patch_embedding.weight",
        "text_embedding.2.diff_b": "condition_embedder.text_embedder.linear_2.bias",
    }
    generator = torch.Generator().manual_seed(3)
    expected = copy.deepcopy(network)
    tensors = in_layout("comfyui down", {"blocks.0.self_attn.q": factors(network)["blocks.0.self_attn.q"]}, alpha=8.0)
    down, up = factors(network)["blocks.0.self_attn.q"]
    expected.get_parameter("blocks.0.attn1.to_q.weight").add_(0.5 * 8 / RANK * up @ down)
    for theirs, ours in wanted.items():
        whole = torch.randn(expected.get_parameter(ours).shape, generator=generator)
        tensors[f"diffusion_model.{theirs}"] = whole
        expected.get_parameter(ours).add_(0.5 * whole)  # alpha is for products only
    lora = lora_of(tmp_path, tensors)
    assert inspect_lora(lora.path).format == "lightx2v"
    assert_accounted(lora, match_lora(lora, network_shapes(network)))
    assert apply_loras(network, [(lora, 0.5)]).warnings == ()
    assert_same_weights(network, expected)


def test_patches_and_biases_of_low_rank(tmp_path: Path, network: nn.Module) -> None:
    generator = torch.Generator().manual_seed(3)
    down, up = torch.randn(2, 4, 1, 2, 2, generator=generator), torch.randn(24, 2, 1, 1, 1, generator=generator)
    bias = torch.randn(24, generator=generator)
    expected = copy.deepcopy(network)
    change = torch.einsum("orabc,rixyz->oixyz", up, down)
    expected.get_parameter("patch_embedding.weight").add_(3 * change)
    expected.get_parameter("patch_embedding.bias").add_(3 * bias)
    tensors = {"lora_A.weight": down, "lora_B.weight": up, "lora_B.bias": bias, "alpha": torch.tensor(6.0)}
    lora = lora_of(tmp_path, {f"transformer.patch_embedding.{name}": tensor for name, tensor in tensors.items()})
    apply_loras(network, [(lora, 1.0)])
    assert_same_weights(network, expected)


def test_several_are_added_up_and_rounded_once(tmp_path: Path, network: nn.Module) -> None:
    """In bfloat16 two roundings would differ from one; the sum by hand is in float32 until its end."""
    loras = [lora_of(tmp_path, in_layout("kohya", factors(network, seed=seed)), name=str(seed)) for seed in (7, 8)]
    expected = merged_by_hand(merged_by_hand(network.bfloat16().float(), factor=1.0, seed=7), factor=-0.5, seed=8)
    network.bfloat16()
    apply_loras(network, [(loras[0], 1.0), (loras[1], -0.5)], undoable=False)
    # A value at the edge between two of bfloat16's may fall to either side by the order of float32 sums.
    differ = [
        (tensor != expected.get_parameter(name).bfloat16()).float().mean().item()
        for name, tensor in network.named_parameters()
    ]
    assert max(differ) < 0.01


def test_strength_zero_and_negative(tmp_path: Path, network: nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    lora = lora_of(tmp_path, in_layout("kohya", factors(network)))
    nothing = apply_loras(network, [(lora, 0.0)])
    assert (nothing.num_merged, nothing.kept_bytes) == (0, 0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    expected = merged_by_hand(network, factor=-1.5)
    apply_loras(network, [(lora, -1.5)], undoable=False)
    assert_same_weights(network, expected)
    with pytest.raises(InvalidRequest, match=r"strength of a\.safetensors is nan"):
        apply_loras(network, [(lora, float("nan"))])


def test_two_experts_in_one_file(tmp_path: Path, network: nn.Module) -> None:
    name = "blocks.0.self_attn.q"
    high, low = factors(network, seed=7)[name], factors(network, seed=8)[name]
    tensors = in_layout("diffusers", {name: high})
    tensors |= {key.replace("transformer.", "transformer_2."): tensor for key, tensor in
                in_layout("diffusers", {name: low}).items()}  # fmt: skip
    lora = lora_of(tmp_path, tensors)
    assert lora_expert(inspect_lora(lora.path)) is None
    for component, (down, up) in {"transformer": high, "transformer_2": low}.items():
        weight = network.get_parameter("blocks.0.attn1.to_q.weight").clone()
        match = match_lora(lora, network_shapes(network), component=component)
        assert_accounted(lora, match)
        assert len(match.elsewhere) == 2
        applied = apply_loras(network, [(lora, 1.0)], component=component)
        assert applied.warnings == ()
        assert_close(network.get_parameter("blocks.0.attn1.to_q.weight"), weight + up @ down)
        applied.undo()
    only = lora_of(tmp_path, {key: low[0] for key in tensors if key.startswith("transformer_2.")}, name="only")
    assert lora_expert(inspect_lora(only.path)) == "transformer_2"
    with pytest.raises(WeightsError, match="other expert"):
        apply_loras(network, [(only, 1.0)], component="transformer")


def test_rows_of_joined_layers_are_shared_out(tmp_path: Path) -> None:
    """HunyuanVideo-1.5 as ComfyUI names it: query, key and value in one; and shift before scale at the end."""
    network = nn.Module()
    sizes = {"transformer_blocks.0.attn.to_q": 8, "transformer_blocks.0.attn.to_k": 8, "norm_out.linear": 16}
    sizes["transformer_blocks.0.attn.to_v"] = 8
    for name, outputs in sizes.items():
        owner = network
        *parents, leaf = name.split(".")
        for parent in parents:
            if not hasattr(owner, parent):
                owner.add_module(parent, nn.Module())
            owner = getattr(owner, parent)
        owner.add_module(leaf, nn.Linear(8, outputs).requires_grad_(False))
    before = {name: network.get_submodule(name).weight.clone() for name in sizes}  # type: ignore[operator]
    generator = torch.Generator().manual_seed(1)
    down, up = torch.randn(2, 8, generator=generator), torch.randn(24, 2, generator=generator)
    end = torch.randn(16, 2, generator=generator)
    tensors = {
        "diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight": down,
        "diffusion_model.double_blocks.0.img_attn.qkv.lora_B.weight": up,
        "diffusion_model.final_layer.adaLN_modulation.1.lora_A.weight": down,
        "diffusion_model.final_layer.adaLN_modulation.1.lora_B.weight": end,
    }
    lora = lora_of(tmp_path, tensors)
    assert inspect_lora(lora.path).family == "hunyuanvideo-1.5"
    match = match_lora(lora, network_shapes(network))
    assert_accounted(lora, match)
    assert apply_loras(network, [(lora, 1.0)]).num_merged == 4
    changes = {name: network.get_submodule(name).weight - before[name] for name in sizes}  # type: ignore[operator]
    joined = torch.cat([changes[f"transformer_blocks.0.attn.to_{name}"] for name in "qkv"])
    assert_close(joined, up @ down)
    assert_close(changes["norm_out.linear"], torch.cat([end[8:], end[:8]]) @ down)
