"""Fused norms beside what they replace, and together with layers in 8 bits, which they quantise for at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from homereel.core.errors import UnsupportedPass
from homereel.kernels.int8_linear import QuantizedActivation
from homereel.kernels.int8_linear.modules import QuantizedLinear
from homereel.passes import apply_passes, fused_streams, parse_passes
from homereel.passes.attention import stream_turn
from homereel.passes.fused_norms import FusedNorms
from tests.passes.conftest import MACHINE, FirstCall

BOTH = "fused_norms,{}"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What layers in 8 bits are given, in order: numbers that they quantise themselves, or 8 bits."""
    found: list[str] = []
    quantize, forward = QuantizedLinear.quantize, QuantizedLinear.forward

    def quantizing(self: Any, x: Tensor) -> QuantizedActivation:
        found.append("numbers")
        return quantize(self, x)

    def computing(self: Any, x: Any, **others: Any) -> Tensor:
        if isinstance(x, QuantizedActivation):
            found.append("8 bits")
        return forward(self, x, **others)

    monkeypatch.setattr(QuantizedLinear, "quantize", quantizing)
    monkeypatch.setattr(QuantizedLinear, "forward", computing)
    return found


@pytest.mark.parametrize(
    ("model", "saved", "eight_bits"),
    [
        ("wan", 2, 4),  # for query, key and value, and for the first half of the feed-forward
        ("hunyuan", 4, 8),  # the same for picture and words
        ("ltx", 2, 2),  # the same for picture and sound, but the gates of heads want numbers before attention
        ("ltx-2.0", 4, 8),
    ],
)
def test_a_norm_quantises_for_the_layers_behind_it(
    model: str, saved: int, eight_bits: int, first_call: FirstCall, seen: list[str]
) -> None:
    """Counted a block and pass: inputs that a layer need not quantise, and layers that are given 8 bits.

    Flows differ by rounding before the quantiser only: a number between two steps may fall to the other side, while a
    wrong scale or shift is off by a tenth and more.
    """
    call = first_call(model)
    network = call.load()
    undo = apply_passes(network, call.family, parse_passes("int8"))
    alone, asked = call.flow(network), seen.count("numbers")
    undo()
    seen.clear()
    apply_passes(network, call.family, parse_passes(BOTH.format("int8")))
    together = call.flow(network)
    calls = len(call.family.blocks(network)) * (3 if model.startswith("ltx") else 2)
    assert asked - seen.count("numbers") == saved * calls
    assert seen.count("8 bits") == eight_bits * calls
    assert float((together - alone).norm() / alone.norm()) < 0.02


@pytest.mark.parametrize(("scheme", "expected"), [("fp8", True), ("int8_block", False)])
def test_schemes_with_a_scale_a_token_only(scheme: str, expected: bool, first_call: FirstCall, seen: list[str]) -> None:
    call = first_call("wan")
    network = call.load()
    apply_passes(network, call.family, parse_passes(BOTH.format(scheme)))
    call.flow(network)
    assert ("8 bits" in seen) == expected


def test_what_listens_to_a_layer_gets_numbers(first_call: FirstCall, seen: list[str]) -> None:
    """As a LoRA does that lies beside a layer whose weights are in 8 bits."""
    call = first_call("wan")
    network = call.load()
    apply_passes(network, call.family, parse_passes(BOTH.format("int8")))
    heard: list[Any] = []
    for block in network.blocks:
        for layer in (block.attn1.to_k.layer, block.ffn.net[0]):
            layer.register_forward_hook(lambda _, inputs, __: heard.append(inputs[0]))
    call.flow(network)
    assert "8 bits" not in seen
    assert len(heard) == 2 * 2 * 2
    assert all(isinstance(each, Tensor) for each in heard)


def test_a_block_of_both_compiles_as_one_graph(first_call: FirstCall) -> None:
    """Flows of the order of 1; the compiler may add up in another order."""
    call = first_call("wan")
    network = call.load()
    apply_passes(network, call.family, parse_passes(BOTH.format("int8")))
    expected = call.flow(network)
    torch.compiler.reset()
    for block in network.blocks:
        block.forward = torch.compile(block.forward, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(call.flow(network), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("rope_type", ["split", "interleaved"])
def test_positions_of_two_streams(rope_type: str) -> None:
    """float32, sums in another order: 1e-5."""
    generator = torch.Generator().manual_seed(1)
    query, key, angles = (torch.randn(1, 5, 48, generator=generator) for _ in range(3))
    norm = nn.RMSNorm(48, eps=1e-6).requires_grad_(False)
    norm.weight.copy_(key[0, 0])
    attn = SimpleNamespace(heads=3, rope_type=rope_type, norm_q=norm, norm_k=norm)
    if rope_type == "split":
        table = angles[..., :24].unflatten(2, (3, 8)).transpose(1, 2)
    else:
        table = angles[..., :24].repeat_interleave(2, 2)
    rotary = (table.cos(), table.sin())
    found = fused_streams.fused_turn(attn, query, key, rotary)
    for one, other in zip(found, stream_turn(attn, query, key, rotary), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_an_older_two_streams_says_the_same(first_call: FirstCall) -> None:
    """The contract has the newer one, with gates of heads and modulated words."""
    call = first_call("ltx-2.0")
    FusedNorms().check(call.family, MACHINE)
    network = call.load()
    before = call.flow(network)
    FusedNorms().apply(network, call.family)
    torch.testing.assert_close(call.flow(network), before, atol=2e-5, rtol=0)


def test_parts_that_are_not_as_told_are_refused(first_call: FirstCall) -> None:
    def weigh(network: Any) -> None:
        network.transformer_blocks[-1].norm2.weight = nn.Parameter(torch.ones(1))

    def change_attention(network: Any) -> None:
        network.transformer_blocks[-1].attn.processor = object()

    call = first_call("hunyuan")
    for change, message in ((weigh, "has weights of its own"), (change_attention, r"\(object\) lends no norms")):
        network = call.load()
        change(network)
        with pytest.raises(UnsupportedPass, match=f"fused_norms: .*{message}.*leave fused_norms out"):
            FusedNorms().apply(network, call.family)
        assert all("forward" not in vars(block) for block in network.transformer_blocks)
        assert "turn" not in vars(network.transformer_blocks[0].attn.processor)
