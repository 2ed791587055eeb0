"""Where sparse attention acts and where it does not, that it is the kernel's, and how tuned weights come in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from homereel.core.errors import InvalidRequest, WeightsError
from homereel.kernels.sparse_linear_attention import sparse_linear_attention
from homereel.kernels.sparse_linear_attention.reference import reference
from homereel.passes import sparse_attention
from homereel.passes.attention import SelfAttention
from homereel.passes.sparse_attention import SparseAttention
from tests.passes.conftest import MACHINE, FirstCall

MODELS = ["wan", "wan-first-frame", "vace", "skyreels", "ltx"]
EVERYWHERE = SparseAttention(ratio=0.3, first_layers=0, first_steps=0)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the kernel is asked for, in order."""
    found: list[dict[str, Any]] = []
    original = sparse_linear_attention

    def seen(q: Tensor, k: Tensor, v: Tensor, **others: Any) -> Tensor:
        found.append({"q": q, "k": k, "v": v, **others})
        mixed: Tensor = original(q, k, v, **others)
        found[-1]["out"] = mixed
        return mixed

    monkeypatch.setattr(sparse_attention, "sparse_linear_attention", seen)
    return found


@pytest.mark.parametrize("model", MODELS)
def test_every_picture_attention_asks_the_kernel(
    model: str, first_call: FirstCall, asked: list[dict[str, Any]]
) -> None:
    """Once a block and pass; blocks beside the chain too. What it gives is what goes on."""
    call = first_call(model)
    network = call.load()
    EVERYWHERE.apply(network, call.family)
    num_blocks = len(call.family.blocks(network)) + len(call.family.side_blocks(network))
    call.flow(network)
    assert len(asked) == num_blocks * (3 if model == "ltx" else 2)
    heads, size = call.family.block_facts.num_heads, call.family.block_facts.head_size
    assert all(one["q"].shape == one["out"].shape == (1, asked[0]["q"].shape[1], heads, size) for one in asked)
    assert all(one["ratio"] == 0.3 and one["proj_weight"] is None for one in asked)


def test_the_first_layers_and_the_first_steps_stay_dense(first_call: FirstCall, asked: list[dict[str, Any]]) -> None:
    """Two layers, two passes; half of three steps is two (rounded to even)."""
    call = first_call("wan")
    network = call.load()
    plain = call.flow(network)
    undo = SparseAttention(ratio=0.3, first_layers=1, first_steps=0.5).apply(network, call.family)
    counts = []
    for step in range(3):
        asked.clear()
        found = call.flow(network, step=step)
        counts.append(len(asked))
        if step == 0:
            assert torch.equal(found, plain)
    assert counts == [0, 0, 2]
    undo()
    SparseAttention(ratio=0.3, first_layers=2, first_steps=0).apply(network, call.family)
    asked.clear()
    assert torch.equal(call.flow(network), plain)
    assert not asked


def test_a_share_of_its_own_a_layer(first_call: FirstCall, asked: list[dict[str, Any]]) -> None:
    call = first_call("wan")
    each = SparseAttention(ratios=(0.5, 0.25), first_layers=0, first_steps=0)
    each.check(call.family, MACHINE)
    network = call.load()
    each.apply(network, call.family)
    call.flow(network)
    assert [one["ratio"] for one in asked] == [0.5, 0.25, 0.5, 0.25]
    with pytest.raises(InvalidRequest, match="3 ratios for the 2 layers"):
        SparseAttention(ratios=(0.5, 0.25, 0.1)).check(call.family, MACHINE)


def test_tuned_projections_are_used_and_found_by_either_name(
    first_call: FirstCall, asked: list[dict[str, Any]], tmp_path: Path
) -> None:
    """The kernel against its reference in float32, whose sums are taken in another order: 1e-5."""
    call = first_call("wan")
    generator = torch.Generator().manual_seed(3)
    flows = []
    for names in ("blocks.{}.attn1.processor.proj_l.", "blocks.{}.self_attn.attn_op.local_attn.proj_l."):
        tensors = {}
        for index in range(2):
            generator.manual_seed(index)
            tensors[names.format(index) + "weight"] = torch.randn(12, 12, generator=generator)
            tensors[names.format(index) + "bias"] = torch.randn(12, generator=generator)
        save_file(tensors, tmp_path / "tuned.safetensors")
        each = SparseAttention(ratio=1, first_layers=0, first_steps=0, weights=tmp_path / "tuned.safetensors")
        each.check(call.family, MACHINE)
        assert each.files == (tmp_path / "tuned.safetensors",)
        network = call.load()
        plain = call.flow(network)
        each.apply(network, call.family)
        state = network.state_dict()
        key = "blocks.1.attn1.processor.proj_l.weight"
        assert torch.equal(state[key], tensors[names.format(1) + "weight"])
        assert state[key].dtype == torch.float32
        asked.clear()
        flows.append(call.flow(network))
        assert not torch.equal(flows[-1], plain)
        one = asked[1]
        expected = reference(
            one["q"], one["k"], one["v"], num_kept=_num_blocks(one["q"]),
            proj_weight=state[key], proj_bias=state["blocks.1.attn1.processor.proj_l.bias"],
        )  # fmt: skip
        torch.testing.assert_close(one["out"], expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(*flows)


def _num_blocks(q_BLHD: Tensor) -> int:
    return -(-q_BLHD.shape[1] // 64)


def test_weights_of_another_model_are_refused_and_nothing_is_changed(first_call: FirstCall, tmp_path: Path) -> None:
    call = first_call("wan")
    save_file({"blocks.0.attn1.processor.proj_l.weight": torch.zeros(8, 8)}, tmp_path / "w.safetensors")
    network = call.load()
    for weights in (tmp_path / "w.safetensors", tmp_path / "missing.safetensors"):
        each = SparseAttention(weights=weights)
        with pytest.raises(WeightsError, match=r"w\.safetensors has no projection of 12x12 for block 0|cannot be read"):
            each.check(call.family, MACHINE)
        with pytest.raises(WeightsError):
            each.apply(network, call.family)
    assert not any(isinstance(part, SelfAttention) for part in network.modules())


def test_a_layer_that_was_given_a_backend_keeps_it(first_call: FirstCall) -> None:
    """Also where attention stays dense: here by the name of PyTorch's plain one."""
    from diffusers.models.attention_dispatch import AttentionBackendName

    call = first_call("wan")
    network = call.load()
    for block in network.blocks:
        block.attn1.processor._attention_backend = AttentionBackendName("_native_math")
    plain = call.flow(network)
    SparseAttention(ratio=1, first_layers=0, first_steps=0).apply(network, call.family)
    assert network.blocks[0].attn1.processor._attention_backend == "_native_math"
    assert torch.equal(call.flow(network), plain)
