"""The activation of a feed-forward, computed by a shorter way where there is one."""

from __future__ import annotations

from functools import partial
from typing import Any

from diffusers.models.activations import GELU
from torch import Tensor

from homereel.kernels.gelu import gelu_tanh, linear_gelu_tanh
from homereel.passes.blocks import Changes
from homereel.passes.stacked import is_plain


def fuse_gelu(feed_forward: Any, *, changes: Changes) -> None:
    """Change diffusers' FeedForward if its first half is a layer with GELU in its tanh form; else leave it."""
    first = feed_forward.net[0]
    if type(first) is GELU and first.approximate == "tanh":
        changes.set_forward(first, partial(_activated, first))


def _activated(first: Any, hidden_states: Tensor) -> Tensor:
    layer = first.proj
    if is_plain(layer):
        return linear_gelu_tanh(hidden_states, layer.weight, layer.bias)
    return gelu_tanh(layer(hidden_states))
