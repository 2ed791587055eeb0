"""What is made of words is reckoned once a clip, and anew whenever words or weights are others."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from homereel.passes.blocks import Changes
from homereel.passes.remembered import remember


class Counted(nn.Linear):
    calls = 0

    def forward(self, given: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(given)


def made() -> tuple[Counted, Changes]:
    layer, changes = Counted(6, 4), Changes()
    remember(layer, changes=changes)
    return layer, changes


@torch.no_grad()
def test_the_same_words_are_reckoned_once() -> None:
    layer, changes = made()
    words, others = torch.randn(2, 6), torch.randn(2, 6)
    first = layer(words)
    assert layer(words) is first
    assert layer.calls == 1
    torch.testing.assert_close(layer(others), nn.functional.linear(others, layer.weight, layer.bias))
    assert layer.calls == 2
    assert layer(words) is first  # both passes of guidance
    changes.undo()
    layer(words)
    layer(words)
    assert layer.calls == 4


@torch.no_grad()
def test_other_weights_or_words_in_the_same_place_are_seen() -> None:
    layer, _ = made()
    words = torch.randn(2, 6)
    for change in (
        lambda: layer.weight.add_(1),
        lambda: setattr(layer.weight, "data", layer.weight * 2),
        layer.bias.zero_,
        lambda: words.mul_(3),
    ):
        before = layer(words)
        change()
        after = layer(words)
        assert not torch.equal(before, after)
        torch.testing.assert_close(after, nn.functional.linear(words, layer.weight, layer.bias))


def test_gradients_flow_and_large_layers_are_left() -> None:
    layer, _ = made()
    layer(torch.randn(2, 6)).sum().backward()
    assert layer.weight.grad is not None
    large, changes = nn.Linear(2048, 512), Changes()
    remember(large, changes=changes)
    assert "forward" not in vars(large)


@torch.no_grad()
def test_it_is_forgotten_with_the_words() -> None:
    layer, _ = made()
    layer(torch.randn(2, 6))
    words = torch.randn(2, 6)
    torch.testing.assert_close(layer(words), nn.functional.linear(words, layer.weight, layer.bias))
    assert len(vars(layer)["forward"]._made) == 1
