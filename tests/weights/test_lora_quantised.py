"""LoRAs on layers whose weights are in 8 bits or packed: a branch beside the layer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from homereel.weights.lora.apply import apply_loras
from tests.tiny_loras import (
    factors,
    in_layout,
    lora_of,
    run_wan,
    tiny_wan,
)


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
