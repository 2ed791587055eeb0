"""A network that learns: its optimizers, its moving average, its step and its part of a checkpoint.

Its weights may lie whole on every rank, where gradients are averaged, or be shared out among the ranks (sharding.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from homereel.training.muon import Muon
from homereel.training.ranks import Rank
from homereel.training.run import MovingAverage
from homereel.training.sharding import as_shared_as, whole

MUON_FACTOR = 1.3
"""Muon's rate against AdamW's."""


@dataclass
class Learner:
    """`average` is None for networks of which only the present weights count, such as a critic."""

    network: Any
    optimizers: list[torch.optim.Optimizer]
    average: MovingAverage | None = None
    shared: bool = False

    def step(self, rank: Rank, *, rate: float, momentum: float, step: int) -> float:
        """Average and clip the gradients, move, forget them; returns their norm."""
        params = [p for p in self.network.parameters() if p.requires_grad]
        if self.shared:
            norm = float(whole(torch.nn.utils.clip_grad_norm_(params, 1.0)))
        else:
            norm = rank.average_gradients(params)
            torch.nn.utils.clip_grads_with_norm_(params, 1.0, torch.tensor(norm))
        for optimizer in self.optimizers:
            is_muon = isinstance(optimizer, Muon)
            for group in optimizer.param_groups:
                group["lr"] = rate * (MUON_FACTOR if is_muon else 1.0)
                if is_muon:
                    group["momentum"] = momentum
                else:
                    group["betas"] = (min(momentum, 0.9), group["betas"][1])
            optimizer.step()
            optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self.network, step=step)
        return norm

    def forget_gradients(self) -> None:
        """Of a loss that went through this network to another."""
        for p in self.network.parameters():
            p.grad = None

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """Everything that is needed to go on, whole, under names that begin with `prefix`. All ranks must call it."""
        found = {f"{prefix}.model.{name}": whole(p.data) for name, p in self.network.named_parameters()}
        if self.average is not None:
            found |= {f"{prefix}.average.{name}": whole(value) for name, value in self.average.values.items()}
        for k, optimizer in enumerate(self.optimizers):
            for i, slots in optimizer.state_dict()["state"].items():
                for slot, value in slots.items():
                    found[f"{prefix}.optimizer{k}.{i}.{slot}"] = whole(torch.as_tensor(value))
        return found

    def restore(self, tensors: Mapping[str, Tensor], prefix: str) -> None:
        """The inverse of `tensors`, in place."""
        with torch.no_grad():
            for name, p in self.network.named_parameters():
                p.copy_(as_shared_as(tensors[f"{prefix}.model.{name}"], p))
                if self.average is not None:
                    kept = self.average.values[name]
                    kept.copy_(as_shared_as(tensors[f"{prefix}.average.{name}"], kept))
        for k, optimizer in enumerate(self.optimizers):
            params = [p for group in optimizer.param_groups for p in group["params"]]
            state: dict[int, dict[str, Tensor]] = {}
            start = f"{prefix}.optimizer{k}."
            for name, value in tensors.items():
                if name.startswith(start):
                    index, slot = name.removeprefix(start).split(".", 1)
                    state.setdefault(int(index), {})[slot] = as_shared_as(value, params[int(index)])
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

    def averaged(self) -> dict[str, Tensor]:
        """The averaged weights by name, whole. All ranks must call it."""
        assert self.average is not None
        return {name: whole(value) for name, value in self.average.values.items()}


def make_learner(
    network: Any,
    *,
    optimizer: Literal["muon", "adamw"],
    weight_decay: float = 0.0,
    average_decay: float | None = None,
    shared: bool = False,
    betas: tuple[float, float] = (0.9, 0.97),
) -> Learner:
    """Muon for the blocks' matrices and AdamW for the rest, or AdamW for all. Rates are given at each step."""
    params = {name: p for name, p in network.named_parameters() if p.requires_grad}
    matrices = [p for name, p in params.items() if optimizer == "muon" and "blocks." in name and p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for p in params.values() if id(p) not in chosen]
    optimizers: list[torch.optim.Optimizer] = []
    if rest:
        optimizers.append(torch.optim.AdamW(rest, lr=0.0, betas=betas, weight_decay=weight_decay))
    if matrices:
        optimizers.append(Muon(matrices, lr=0.0, weight_decay=weight_decay))
    average = None if average_decay is None else MovingAverage(network, decay=average_decay)
    return Learner(network, optimizers, average, shared)
