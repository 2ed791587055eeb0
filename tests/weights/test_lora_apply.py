"""LoRAs in every layout, matched and applied: compared with sums made by hand, and taken out again bit for bit."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from homereel.core.errors import InvalidRequest, WeightsError
from homereel.weights.lora.apply import apply_loras, network_shapes
from homereel.weights.lora.file import LoraFile
from homereel.weights.lora.match import describe_unmatched, match_lora
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
    tiny_wan,
)


@pytest.fixture
def network() -> nn.Module:
    return tiny_wan()


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


@pytest.mark.parametrize(
    ("peft", "factor"),
    [
        ({"r": RANK, "lora_alpha": 12}, 3.0),
        ({"r": RANK, "lora_alpha": 12, "use_rslora": True}, 6.0),
        ({"r": RANK, "lora_alpha": 1, "alpha_pattern": {"blocks.0.attn1.to_q": 12}}, 3.0),
        ({"r": RANK, "lora_alpha": 1, "alpha_pattern": {"^attn1.to_q": 12}}, 0.25),
    ],
)
def test_alpha_from_pefts_configuration(
    tmp_path: Path, network: nn.Module, peft: dict[str, Any], factor: float
) -> None:
    name = "blocks.0.self_attn.q"
    down, up = factors(network)[name]
    expected = network.get_parameter("blocks.0.attn1.to_q.weight") + factor * up @ down
    packed = {f"transformer.{key}": value for key, value in peft.items()}
    lora = lora_of(tmp_path, in_layout("diffusers", {name: (down, up)}), lora_adapter_metadata=json.dumps(packed))
    applied = apply_loras(network, [(lora, 1.0)])
    assert_close(network.get_parameter("blocks.0.attn1.to_q.weight"), expected)
    applied.undo()
    (tmp_path / "adapter_config.json").write_text(json.dumps(peft))
    beside = lora_of(tmp_path, in_layout("peft", {name: (down, up)}), name="adapter_model")
    apply_loras(network, [(beside, 1.0)])
    assert_close(network.get_parameter("blocks.0.attn1.to_q.weight"), expected)


@pytest.mark.parametrize(
    ("peft", "message"),
    [
        ("{", "damaged"),
        ("[1]", "damaged"),
        ('{"lora_alpha": "8"}', "alpha of"),
        ('{"alpha_pattern": {"(a+)+$": 8}}', "plain name"),
    ],
)
def test_configuration_without_sense_is_told(tmp_path: Path, network: nn.Module, peft: str, message: str) -> None:
    lora = lora_of(tmp_path, in_layout("diffusers", factors(network)), lora_adapter_metadata=peft)
    with pytest.raises(WeightsError, match=message):
        apply_loras(network, [(lora, 1.0)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_undo_restores_every_bit(tmp_path: Path, network: nn.Module, dtype: torch.dtype) -> None:
    network.to(dtype)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    one = lora_of(tmp_path, in_layout("kohya", factors(network, seed=7)), name="one")
    two = lora_of(tmp_path, in_layout("comfyui", factors(network, seed=8)), name="two")
    first = apply_loras(network, [(one, 0.3)])
    second = apply_loras(network, [(two, -1.7), (one, 0.9)])
    assert first.kept_bytes == sum(before[f"{layer}.weight"].nbytes for layer in LAYERS.values())
    assert not torch.equal(network.state_dict()["proj_out.weight"], before["proj_out.weight"])
    for applied in (second, first, first):
        applied.undo()
    assert first.kept_bytes == 0
    after = network.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


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


class Int8Linear(nn.Module):
    """A layer as from a file with integers and scales."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        scale = layer.weight.abs().amax(1, keepdim=True) / 127
        self.register_buffer("scale", scale)
        self.register_buffer("weight", (layer.weight / scale).round().to(torch.int8))
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.get_buffer("weight") * self.get_buffer("scale"), self.bias)


class PackedParameter(nn.Parameter):
    """As GGUF's: a shape of bytes that is not the layer's."""


def quantise(network: nn.Module, layer: str, *, kind: str) -> nn.Module:
    owner, _, leaf = layer.rpartition(".")
    old = network.get_submodule(layer)
    assert isinstance(old, nn.Linear)
    if kind == "int8":
        network.get_submodule(owner)._modules[leaf] = Int8Linear(old)
        return network
    if kind == "fp8":
        old.weight = nn.Parameter(old.weight.to(torch.float8_e4m3fn), requires_grad=False)
        setattr(old, "forward", lambda x: F.linear(x, old.weight.float(), old.bias))  # noqa: B010
        return network
    whole = old.weight.detach().clone()
    old.weight = PackedParameter(torch.zeros(3, 5), requires_grad=False)
    setattr(old, "forward", lambda x: F.linear(x, whole, old.bias))  # noqa: B010
    return network


@pytest.mark.parametrize("kind", ["int8", "fp8", "packed"])
def test_quantised_layers_get_a_branch(tmp_path: Path, network: nn.Module, kind: str) -> None:
    layer = "blocks.1.ffn.net.0.proj"
    quantise(network, layer, kind=kind)
    before, state = run_wan(network), {name: tensor.clone() for name, tensor in network.state_dict().items()}
    down, up = factors(tiny_wan())["blocks.1.ffn.0"]
    tensors = in_layout("comfyui", {"blocks.1.ffn.0": (down, up)})
    bias = torch.ones(32)
    lora = lora_of(tmp_path, {**tensors, "diffusion_model.blocks.1.ffn.0.diff_b": bias})
    x = torch.randn(1, 5, 24, generator=torch.Generator().manual_seed(4))
    expected = network.get_submodule(layer)(x) + 0.7 * (F.linear(x, up @ down) + bias)
    applied = apply_loras(network, [(lora, 0.7)])
    assert (applied.warnings, applied.num_branches, applied.num_merged) == ((), 1, 1)
    torch.testing.assert_close(network.get_submodule(layer)(x), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(run_wan(network), before, atol=1e-3)
    assert network.state_dict().keys() == state.keys()
    second = apply_loras(network, [(lora, 0.7)])
    second.undo()
    torch.testing.assert_close(network.get_submodule(layer)(x), expected, rtol=1e-4, atol=1e-5)
    applied.undo()
    assert torch.equal(run_wan(network), before)
    assert not list(network.get_submodule(layer).children())


def test_a_branch_takes_whole_differences_too(tmp_path: Path, network: nn.Module) -> None:
    quantise(network, "proj_out", kind="int8")
    x = torch.randn(1, 5, 24, generator=torch.Generator().manual_seed(4))
    whole = torch.randn(16, 24, generator=torch.Generator().manual_seed(5))
    expected = network.get_submodule("proj_out")(x) + F.linear(x, whole)
    apply_loras(network, [(lora_of(tmp_path, {"diffusion_model.head.head.diff": whole}), 1.0)])
    torch.testing.assert_close(network.get_submodule("proj_out")(x), expected, rtol=1e-4, atol=1e-5)


def test_what_does_not_apply_is_listed_and_the_rest_applied(tmp_path: Path, network: nn.Module) -> None:
    pairs = factors(network)
    tensors = in_layout("comfyui down", pairs, alpha=4.0)
    odd = {
        "diffusion_model.blocks.9.self_attn.q.lora_down.weight": torch.zeros(4, 24),
        "diffusion_model.blocks.9.self_attn.q.lora_up.weight": torch.zeros(24, 4),
        "diffusion_model.blocks.0.self_attn.k.lora_down.weight": torch.zeros(4, 20),
        "diffusion_model.blocks.0.self_attn.k.lora_up.weight": torch.zeros(24, 4),
        "diffusion_model.blocks.0.self_attn.k.alpha": torch.tensor(4.0),
        "diffusion_model.blocks.0.self_attn.v.lora_up.weight": torch.zeros(24, 4),
        "diffusion_model.blocks.0.dance.lora_up.weight": torch.zeros(24, 4),
        "diffusion_model.patch_embedding.diff": torch.zeros(24, 36, 1, 2, 2),
        "diffusion_model.blocks.0.cross_attn.q.lora_down.weight": torch.zeros(4, 24, dtype=torch.int8),
        "diffusion_model.blocks.0.cross_attn.q.lora_up.weight": torch.zeros(24, 4, dtype=torch.int8),
        "diffusion_model.blocks.0.cross_attn.o.lora_down.weight": torch.zeros(3, 24),
        "diffusion_model.blocks.0.cross_attn.o.lora_up.weight": torch.zeros(24, 4),
        "text_encoder.layers.0.q.lora_A.weight": torch.zeros(4, 24),
        "diffusion_model.blocks.0.ffn.0.lora_down.weight": torch.zeros(0, 24),
        "diffusion_model.blocks.0.ffn.0.lora_up.weight": torch.zeros(32, 0),
        "something": torch.zeros(1),
    }
    lora = lora_of(tmp_path, {**tensors, **odd})
    match = match_lora(lora, network_shapes(network))
    assert_accounted(lora, match)
    reasons = {entry.key: entry.reason for entry in match.unmatched}
    assert reasons.keys() == odd.keys()
    for key, words in {
        "diffusion_model.blocks.9.self_attn.q.lora_up.weight": "no such layer",
        "diffusion_model.blocks.0.self_attn.k.alpha": "24 by 20 where the model has 24 by 24",
        "diffusion_model.blocks.0.self_attn.v.lora_up.weight": "down",
        "diffusion_model.blocks.0.dance.lora_up.weight": "no layer of the family wan has this name",
        "diffusion_model.patch_embedding.diff": "where the model has (24, 4, 1, 2, 2)",
        "diffusion_model.blocks.0.cross_attn.q.lora_up.weight": "I8",
        "diffusion_model.blocks.0.cross_attn.o.lora_up.weight": "do not fit each other",
        "text_encoder.layers.0.q.lora_A.weight": "the text encoder",
        "diffusion_model.blocks.0.ffn.0.lora_up.weight": "do not fit each other",
        "something": "no part of a LoRA",
    }.items():
        assert words in reasons[key]
    expected = merged_by_hand(network, factor=1.0)
    applied = apply_loras(network, [(lora, 1.0)])
    assert all(warning.startswith("a.safetensors: ") for warning in applied.warnings)
    assert len(applied.warnings) == len(set(reasons.values())) == len(describe_unmatched(match))
    assert_same_weights(network, expected)


def test_all_or_nothing(tmp_path: Path, network: nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    good = lora_of(tmp_path, in_layout("kohya", factors(network)), name="good")
    foreign = lora_of(
        tmp_path,
        {"lora_unet_down_blocks_0_attn.lora_down.weight": torch.zeros(4, 8)},
        name="foreign",
    )
    broken = in_layout("kohya", factors(network))
    broken["lora_unet_head_head.lora_up.weight"][0, 0] = float("inf")
    cases: dict[str, LoraFile] = {
        "nothing that applies.*Stable Diffusion": foreign,
        "not finite": lora_of(tmp_path, broken, name="broken"),
    }
    for message, bad in cases.items():
        with pytest.raises(WeightsError, match=message):
            apply_loras(network, [(good, 1.0), (bad, 1.0)])
    gone = lora_of(tmp_path, in_layout("kohya", factors(network)), name="gone")
    gone.path.unlink()
    with pytest.raises(WeightsError, match="cannot be read"):
        apply_loras(network, [(good, 1.0), (gone, 1.0)])
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_failure_midway_leaves_nothing_behind(
    tmp_path: Path, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    from homereel.weights.lora import apply as lora_apply

    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    lora = lora_of(tmp_path, in_layout("kohya", factors(network)))
    real, calls = lora_apply._halves, []

    def failing(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise MemoryError
        return real(*arguments, **options)

    monkeypatch.setattr(lora_apply, "_halves", failing)
    with pytest.raises(MemoryError):
        apply_loras(network, [(lora, 1.0)])
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


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
