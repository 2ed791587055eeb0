"""Which layers go into 8 bits, that those with one input quantise it once, and what that costs in accuracy."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from homereel.core.errors import UnsupportedPass
from homereel.kernels.int8_linear.modules import QuantizedLinear
from homereel.passes import apply_passes, parse_passes
from homereel.passes.quantize import MODULES, Quantize, SharedInput, SharingLinear
from tests.passes.conftest import FirstCall


def plain_layers(network: Any) -> set[str]:
    """Names of the layers that are still Linears, without numbers of blocks."""
    return {
        name.replace("blocks.0.", "blocks.N.").replace("blocks.1.", "blocks.N.").replace("blocks.2.", "blocks.N.")
        for name, part in network.named_modules()
        if isinstance(part, nn.Linear) and "blocks." in name
    }


@pytest.mark.parametrize(
    ("model", "left", "layers_a_block"),
    [
        ("wan", set(), 10),
        ("vace", {"vace_blocks.N.proj_in", "vace_blocks.N.proj_out"}, 10),
        ("skyreels", set(), 10),
        ("hunyuan", {"transformer_blocks.N.norm1.linear", "transformer_blocks.N.norm1_context.linear"}, 12),
    ],
)
def test_every_layer_of_the_blocks_but_those_of_modulation(
    model: str, left: set[str], layers_a_block: int, first_call: FirstCall
) -> None:
    call = first_call(model)
    network = call.load()
    Quantize().apply(network, call.family)
    assert {name for name in plain_layers(network) if "refiner" not in name} == left
    for block in (*call.family.blocks(network), *call.family.side_blocks(network)):
        assert sum(isinstance(part, QuantizedLinear) for part in block.modules()) == layers_a_block


@pytest.mark.parametrize("model", ["wan", "vace", "hunyuan", "ltx"])
def test_the_memory_that_it_frees_is_known_beforehand(model: str, first_call: FirstCall) -> None:
    call = first_call(model)
    tensors = call.family.tensors("transformer")
    for scheme in MODULES:
        network = call.load()
        before = _held_bytes(network)
        Quantize(scheme).apply(network, call.family)
        assert before - _held_bytes(network) == Quantize(scheme).freed_bytes(tensors, item_bytes=4) > 0


def _held_bytes(network: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))


def test_queries_keys_and_values_quantise_their_input_once(
    first_call: FirstCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a block of Wan: one for self-attention's three, one for its output, three for words, two for the rest."""
    call = first_call("wan")
    network = call.load()
    Quantize().apply(network, call.family)
    seen: list[int] = []
    quantize = QuantizedLinear.quantize

    def counting(self: Any, x: torch.Tensor) -> Any:
        seen.append(1)
        return quantize(self, x)

    monkeypatch.setattr(QuantizedLinear, "quantize", counting)
    called: list[Any] = []
    for name in ("to_q", "to_k", "to_v"):
        layer = getattr(network.blocks[0].attn1, name)
        assert isinstance(layer, SharingLinear)
        layer.register_forward_hook(lambda module, *_: called.append(module))
    x = torch.randn(1, 5, 24)
    attention = network.blocks[0].attn1
    for name in ("to_q", "to_k", "to_v"):
        layer = getattr(attention, name)
        assert torch.equal(layer(x), layer.layer(x))
    assert len(seen) == 1 + 3, "one shared, and one for each comparison"
    assert len(called) == 3
    assert vars(attention.to_q._shared)["_x"] is None, "the input is not held longer than it is needed"


def test_another_input_is_quantised_again() -> None:
    layer = MODULES["int8"].from_linear(nn.Linear(16, 8))
    shared = SharedInput(3)
    one, other = torch.randn(2, 16), torch.randn(2, 16)
    assert torch.equal(shared.of(one, layer).values_MK, layer.quantize(one).values_MK)
    assert torch.equal(shared.of(other, layer).values_MK, layer.quantize(other).values_MK)
    assert torch.equal(shared.of(one, layer).values_MK, layer.quantize(one).values_MK)


@pytest.mark.parametrize(("spec", "tolerance"), [("int8", 0.05), ("int8_block", 0.1), ("fp8", 0.15)])
def test_flows_stay_close(spec: str, tolerance: float, first_call: FirstCall) -> None:
    """Relative to the flow's own size. A layer is off by 0.7% (int8) to 4% (fp8); twenty in a row, guided three times,
    add up to several times that. A wrong scale would be off by 1 and more."""
    call = first_call("wan")
    network = call.load()
    plain = call.flow(network)
    apply_passes(network, call.family, parse_passes(spec))
    error = (call.flow(network) - plain).norm() / plain.norm()
    assert 0 < float(error) < tolerance


def test_weights_that_are_no_numbers_leave_everything_as_it_was(first_call: FirstCall) -> None:
    call = first_call("wan")
    network = call.load()
    network.blocks[1].ffn.net[2].weight.data[0, 0] = torch.nan
    before = [type(part) for part in network.modules()]
    with pytest.raises(UnsupportedPass, match="NaN or infinite"):
        Quantize().apply(network, call.family)
    assert [type(part) for part in network.modules()] == before
