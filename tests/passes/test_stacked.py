"""Layers of the same tokens in one product of matrices: the same numbers, also after their weights were changed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from homereel.passes.stacked import LARGEST_BYTES, project, stack


def three(num_inputs: int = 24, *, bias: bool = True, dtype: torch.dtype = torch.float32) -> list[nn.Linear]:
    torch.manual_seed(0)
    return [nn.Linear(num_inputs, 16, bias=bias, dtype=dtype).requires_grad_(False) for _ in range(3)]


def check(layers: list[nn.Linear], *, together: bool) -> None:
    """float32 sums of 24 numbers may be added up in another order."""
    rows = torch.randn(2, 7, layers[0].in_features, dtype=layers[0].weight.dtype)
    with torch.no_grad():
        got, wanted = project(layers, rows), [layer(rows) for layer in layers]
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert (got[0].untyped_storage().data_ptr() == got[1].untyped_storage().data_ptr()) == together


@pytest.mark.parametrize("bias", [True, False])
def test_the_numbers_are_those_of_each_layer(bias: bool) -> None:
    layers = three(bias=bias)
    before = [layer.weight.clone() for layer in layers]
    check(layers, together=False)
    stack(layers)
    assert all(torch.equal(layer.weight, weight) for layer, weight in zip(layers, before, strict=True))
    check(layers, together=True)


def test_what_changes_a_layer_is_seen() -> None:
    layers = three()
    stack(layers)
    layers[1].weight.add_(1)  # as a LoRA that is merged
    check(layers, together=True)
    layers[2].weight.data = layers[2].weight + 1
    check(layers, together=False)
    stack(layers)
    layers[0].double()
    layers[1].double()
    layers[2].double()
    check(layers, together=False)


def test_what_listens_to_a_layer_hears_it() -> None:
    layers, heard = three(), list[Tensor]()
    stack(layers)
    layers[1].register_forward_hook(lambda _, __, made: heard.append(made))
    check(layers, together=False)
    assert heard


def test_large_or_unlike_layers_are_left() -> None:
    large, unlike = three(LARGEST_BYTES // 64 + 1), [*three()[:2], nn.Linear(24, 8)]
    for layers in (large, unlike):
        before = [layer.weight.data_ptr() for layer in layers]
        stack(layers)
        assert [layer.weight.data_ptr() for layer in layers] == before
