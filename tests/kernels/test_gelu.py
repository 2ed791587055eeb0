"""GELU by a sigmoid against PyTorch's by a tanh."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from homereel.kernels.gelu import gelu_tanh


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


def test_a_compiler_sees_pytorchs_own() -> None:
    x = torch.linspace(-5, 5, 101)
    graphs: list[str] = []

    def keep(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        graphs.append(graph.code)
        return graph

    assert torch.equal(torch.compile(gelu_tanh, backend=keep, fullgraph=True)(x), F.gelu(x, approximate="tanh"))
    assert "gelu" in graphs[0]
    assert "sigmoid" not in graphs[0]
