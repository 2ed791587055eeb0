"""The activation of a feed-forward, computed by a shorter way where there is one."""

from __future__ import annotations

from functools import partial
from typing import Any

from diffusers.models.activations import GELU
from torch import Tensor, nn

from homereel.kernels.gelu import gelu_tanh, linear_gelu_tanh
from homereel.passes.blocks import Changes


def fuse_gelu(feed_forward: Any, *, changes: Changes) -> None:
    """Change diffusers' FeedForward if its first half is a layer with GELU in its tanh form; else leave it."""
    first = feed_forward.net[0]
    if type(first) is GELU and first.approximate == "tanh":
        changes.set_forward(first, partial(_activated, first))


def _activated(first: Any, hidden_states: Tensor) -> Tensor:
    layer = first.proj
    if _is_plain(layer):
        return linear_gelu_tanh(hidden_states, layer.weight, layer.bias)
    return gelu_tanh(layer(hidden_states))


def _is_plain(layer: nn.Module) -> bool:
    """Whether calling it does nothing but multiply and add."""
    changed = layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer)
    return type(layer) is nn.Linear and not changed
