"""A LoRA beside a layer instead of in it, for layers whose weights cannot be added to, such as quantised ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

_NAME = "lora_branch"
_COMPUTED = (torch.float32, torch.bfloat16, torch.float16)


class Branch(nn.Module):
    """Adds factor * (x @ down.T @ up.T), or factor * (x @ up.T) without `down`, to what a linear layer gives.

    Legend: R rank, I inputs, O outputs. The tensors move with the layer and are in no state dict.
    """

    down_RI: Tensor | None
    up_OR: Tensor

    def __init__(self, down_RI: Tensor | None, up_OR: Tensor, *, factor: float) -> None:
        super().__init__()
        self.register_buffer("down_RI", None if down_RI is None else _computable(down_RI), persistent=False)
        self.register_buffer("up_OR", _computable(up_OR), persistent=False)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        inner = x if self.down_RI is None else F.linear(x, self.down_RI.to(x.dtype))
        added: Tensor = self.factor * F.linear(inner, self.up_OR.to(x.dtype))
        return added


class BranchHandle:
    """A branch that was put beside a layer, and can be taken away."""

    def __init__(self, layer: nn.Module, branch: Branch) -> None:
        self.layer, self.name = layer, _free_name(layer)
        layer.add_module(self.name, branch)
        self.hook: RemovableHandle = layer.register_forward_hook(_adding(branch))

    def remove(self) -> None:
        """The layer is as it was before."""
        self.hook.remove()
        delattr(self.layer, self.name)


def takes_branch(layer: nn.Module) -> bool:
    """Whether this is a linear layer, of whatever kind of weights."""
    return isinstance(getattr(layer, "in_features", None), int) and isinstance(
        getattr(layer, "out_features", None), int
    )


def _adding(branch: Branch) -> Any:
    def add(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        changed: Tensor = output + branch(inputs[0]).to(output.dtype)
        return changed

    return add


def _computable(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype in _COMPUTED else tensor.to(torch.bfloat16)


def _free_name(layer: nn.Module) -> str:
    number = 0
    while hasattr(layer, f"{_NAME}_{number}"):
        number += 1
    return f"{_NAME}_{number}"
