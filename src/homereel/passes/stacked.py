"""Layers that read the same tokens as one product of matrices, on a processor: what is read once is read faster.

Their weights are laid one after the other in memory, and each layer keeps its own part. Whoever changes a part in place
changes what is computed; whoever replaces one (a LoRA, another number format) has the layers computed one by one again.
Shape letters: B batch, L tokens, C channels in, F features out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Larger layers gain nothing, and their weights may be mapped files that should not be copied.
LARGEST_BYTES = 2 * 1024**2


def stack(layers: Sequence[Any]) -> None:
    """Lay the weights of small plain layers one after the other; leave others as they are."""
    if all(is_plain(layer) and layer.weight.device.type == "cpu" for layer in layers):
        weights, biases = ([getattr(layer, name) for layer in layers] for name in ("weight", "bias"))
        alike = {(w.shape, w.dtype, b is None) for w, b in zip(weights, biases, strict=True)}
        if len(alike) == 1 and weights[0].nbytes <= LARGEST_BYTES:
            _lay(weights)
            if biases[0] is not None:
                _lay(biases)


def project(layers: Sequence[Any], rows: Any) -> Sequence[Tensor]:
    """Each layer of the same rows (B, L, C): (B, L, F) each."""
    if not isinstance(rows, Tensor) or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return [layer(rows) for layer in layers]
    if not all(is_plain(layer) for layer in layers):
        return [layer(rows) for layer in layers]
    weights, biases = ([getattr(layer, name) for layer in layers] for name in ("weight", "bias"))
    if not _lie_together(weights) or not (biases[0] is None or _lie_together(biases)):
        return [layer(rows) for layer in layers]
    first, bias = weights[0], biases[0]
    together = first.as_strided((len(weights) * first.shape[0], first.shape[1]), first.stride())
    added = None if bias is None else bias.as_strided((len(biases) * bias.shape[0],), (1,))
    return F.linear(rows, together, added).chunk(len(layers), dim=-1)


def is_plain(layer: Any) -> bool:
    """Whether calling it does nothing but multiply and add."""
    changed = layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer)
    return type(layer) is nn.Linear and not changed


def _lay(parts: Sequence[Any]) -> None:
    for part, place in zip(parts, torch.cat([each.data for each in parts]).chunk(len(parts)), strict=True):
        part.data = place


def _lie_together(parts: Sequence[Any]) -> bool:
    """Whether each begins where the one before ends, in one piece of memory."""
    first = parts[0]
    if first is None or first.device.type != "cpu":
        return False
    start, size = first.data_ptr(), first.nbytes
    storage = first.untyped_storage().data_ptr()
    return first.is_contiguous() and all(
        part is not None
        and part.dtype == first.dtype
        and part.shape == first.shape
        and part.is_contiguous()
        and part.data_ptr() == start + place * size
        and part.untyped_storage().data_ptr() == storage
        for place, part in enumerate(parts)
    )
