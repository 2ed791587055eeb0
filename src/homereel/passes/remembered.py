"""What small layers make of a clip's words, on a processor: every step asks for the same, and it is reckoned once.

It is kept for as long as the words that were given, and forgotten when the layer's weights change.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from homereel.passes.blocks import Changes
from homereel.passes.stacked import LARGEST_BYTES


def remember(layer: Any, *, changes: Changes) -> None:
    """Change a small layer of one tensor on a processor; leave others."""
    own = list(layer.parameters()) if isinstance(layer, nn.Module) else []
    if own and all(each.device.type == "cpu" and each.nbytes <= LARGEST_BYTES for each in own):
        changes.set_forward(layer, _Remembered(layer))


class _Remembered:
    """The layer's forward."""

    def __init__(self, layer: nn.Module) -> None:
        self._layer, self._compute = layer, layer.forward
        self._made: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def __call__(self, given: Tensor) -> Tensor:
        own = list(self._layer.parameters())
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or any(each.is_inference() for each in own):
            return self._fresh(given)  # an inference tensor does not count its changes
        state = [(each.data_ptr(), 0 if each.is_inference() else each._version) for each in (*own, given)]
        known = self._made.get(given)
        if known is None or known[0] != state:
            known = (state, self._fresh(given))
            self._made[given] = known
        made: Tensor = known[1]
        return made

    def _fresh(self, given: Tensor) -> Tensor:
        made: Tensor = self._compute(given)
        return made
