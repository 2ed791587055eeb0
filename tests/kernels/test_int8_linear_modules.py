"""8-bit linear layers as modules: they stand in for nn.Linear, keep what files call their tensors, and say no."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from homereel.core.errors import UnsupportedPass, WeightsError
from homereel.kernels.int8_linear.modules import BlockInt8Linear, Fp8Linear, Int8Linear, QuantizedLinear
from homereel.weights.lora.branch import Branch, BranchHandle, takes_branch

KINDS: list[tuple[type[QuantizedLinear], float]] = [(Int8Linear, 1.5e-2), (BlockInt8Linear, 1.5e-2), (Fp8Linear, 5e-2)]
each_kind = pytest.mark.parametrize(("kind", "max_relative"), KINDS, ids=lambda value: getattr(value, "__name__", ""))


def linear(num_inputs: int, num_outputs: int, *, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(num_inputs, num_outputs, bias=bias).requires_grad_(False)


@each_kind
@pytest.mark.parametrize("bias", [True, False])
def test_it_stands_in_for_a_linear_layer(kind: type[QuantizedLinear], max_relative: float, bias: bool) -> None:
    layer, x = linear(200, 130, bias=bias), torch.randn(2, 57, 200)
    quantized = kind.from_linear(layer)
    assert (quantized.in_features, quantized.out_features) == (200, 130)
    wanted = layer(x)
    assert float((quantized(x) - wanted).norm() / wanted.norm()) < max_relative
    weight = quantized.dequantised()
    assert float((weight - layer.weight).norm() / layer.weight.norm()) < max_relative
    # The layer computes with exactly these weights: only the rounding of x is left, and sums in float32.
    rounded = torch.nn.functional.linear(x, weight, layer.bias)
    assert float((quantized(x) - rounded).norm() / wanted.norm()) < max_relative * 0.75


@each_kind
def test_a_state_dict_goes_round(kind: type[QuantizedLinear], max_relative: float) -> None:
    quantized, x = kind.from_linear(linear(200, 130)), torch.randn(3, 200)
    state = quantized.state_dict()
    name = "fp8_weight" if kind is Fp8Linear else "int8_weight"
    assert list(state) == [name, "scale", "bias"]
    again = kind(200, 130)
    again.load_state_dict(state)
    assert torch.equal(again(x), quantized(x))
    with pytest.raises(RuntimeError, match="size mismatch"):
        kind(201, 130).load_state_dict(state)


@each_kind
def test_a_cast_changes_neither_weights_nor_scales(kind: type[QuantizedLinear], max_relative: float) -> None:
    quantized, x = kind.from_linear(linear(20, 13)), torch.randn(3, 20)
    before = {name: (value.dtype, value.clone()) for name, value in quantized.state_dict().items()}
    wanted = quantized(x)
    nn.Sequential(quantized).to(torch.bfloat16).half()
    for name, value in quantized.state_dict().items():
        assert value.dtype == before[name][0], name
    assert torch.equal(quantized(x), wanted)
    assert quantized.to("meta").state_dict()["scale"].is_meta


def test_gelu_is_part_of_the_layer() -> None:
    layer, x = linear(64, 32), torch.randn(5, 64) * 4
    plain, fused = Int8Linear.from_linear(layer), Int8Linear.from_linear(layer, gelu=True)
    assert torch.equal(fused(x), torch.nn.functional.gelu(plain(x), approximate="tanh"))


def test_one_quantisation_serves_several_layers_and_a_branch_still_sees_the_input() -> None:
    first, second, x = (
        Int8Linear.from_linear(linear(64, 32)),
        Int8Linear.from_linear(linear(64, 48)),
        torch.randn(5, 64),
    )
    shared = first.quantize(x)
    assert torch.equal(second(x, quantized=shared), second(x))
    assert takes_branch(first)
    plain = first(x)
    up_OR = torch.randn(32, 2)
    handle = BranchHandle(first, Branch(torch.randn(2, 64), up_OR, factor=0.5))
    with_branch = first(x, quantized=shared)
    assert not torch.equal(with_branch, plain)
    assert torch.equal(with_branch, first(x))
    handle.remove()
    assert torch.equal(first(x, quantized=shared), plain)


def test_it_compiles_as_one_graph() -> None:
    pair = nn.Sequential(Int8Linear.from_linear(linear(40, 24), gelu=True), BlockInt8Linear.from_linear(linear(24, 3)))
    compiled, x = torch.compile(pair, backend="aot_eager", fullgraph=True), torch.randn(5, 40)
    assert torch.equal(compiled(x), pair(x))


def test_tensors_that_do_not_belong_together_are_refused() -> None:
    values, scale = torch.zeros(130, 200, dtype=torch.int8), torch.ones(2, 2)
    assert BlockInt8Linear.from_tensors(values, scale=scale, bias=None).out_features == 130
    with pytest.raises(WeightsError, match=r"needs a scale of shape \(2, 2\), not .*\(1, 2\)"):
        BlockInt8Linear.from_tensors(values, scale=scale[:1], bias=None)
    with pytest.raises(WeightsError, match=r"needs a scale of shape \(130,\)"):
        Int8Linear.from_tensors(values, scale=scale, bias=None)
    with pytest.raises(WeightsError, match=r"needs a bias of shape \(130,\)"):
        BlockInt8Linear.from_tensors(values, scale=scale, bias=torch.zeros(7))
    with pytest.raises(WeightsError, match=r"is a matrix of torch\.float8_e4m3fn, not torch\.int8"):
        Fp8Linear.from_tensors(values, scale=torch.ones(130), bias=None)
    spoilt = linear(4, 4)
    spoilt.weight[0, 0] = torch.inf
    with pytest.raises(UnsupportedPass, match="NaN or infinite"):
        Int8Linear.from_linear(spoilt)
