"""GELU by a sigmoid, or by oneDNN with the layer before it, against PyTorch's by a tanh."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from homereel.kernels.gelu import gelu_tanh, linear_gelu_tanh
from homereel.kernels.onednn import onednn_takes


def test_it_equals_the_tanh_form_in_float32() -> None:
    """Relative to the largest of the two numbers that are added up to it: a few units in the last of 24 bits."""
    x = torch.cat([torch.linspace(-30, 30, 200_001), torch.tensor([0.0, -0.0, 1e-20, -1e30, 1e30])])
    before = x.clone()
    torch.testing.assert_close(gelu_tanh(x), F.gelu(x, approximate="tanh"), rtol=2e-6, atol=1e-6)
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_types_are_left_to_pytorch(dtype: torch.dtype) -> None:
    x = torch.linspace(-5, 5, 101, dtype=dtype)
    assert torch.equal(gelu_tanh(x), F.gelu(x, approximate="tanh"))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_layer_and_its_gelu_at_once(dtype: torch.dtype, bias: bool) -> None:
    """Rounded once where oneDNN does both, and else twice; 2e-6 are sums of 24 inputs in another order."""
    generator = torch.Generator().manual_seed(2)
    x, weight, rows = (torch.randn(*shape, generator=generator).to(dtype) for shape in ((2, 37, 24), (50, 24), (50,)))
    added = rows if bias else None
    got = linear_gelu_tanh(x, weight, added)
    exact = F.gelu(F.linear(x.double(), weight.double(), None if added is None else added.double()), approximate="tanh")
    assert got.dtype == dtype
    if dtype == torch.bfloat16:
        roundings = 1.05 * 2**-8 if onednn_takes(dtype) else 2**-6
        torch.testing.assert_close(got.double(), exact, rtol=roundings, atol=2e-3)
    else:
        torch.testing.assert_close(got.double(), exact, rtol=2e-6, atol=4e-6)


def test_a_compiler_sees_pytorchs_own() -> None:
    x = torch.linspace(-5, 5, 101)
    graphs: list[str] = []

    def keep(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        graphs.append(graph.code)
        return graph

    assert torch.equal(torch.compile(gelu_tanh, backend=keep, fullgraph=True)(x), F.gelu(x, approximate="tanh"))
    assert "gelu" in graphs[0]
    assert "sigmoid" not in graphs[0]
