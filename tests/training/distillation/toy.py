"""Networks of which the answers are known, and a tiny one of Wan's class."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from homereel.training.distillation.flow import Conditions
from tests.tiny_models import TRANSFORMER

SHAPE = (4, 3, 4, 4)


class Gaussian(nn.Module):
    """The exact flow of clips whose elements are normal with this mean and deviation, whatever the words say.

    With x = (1 - s) * clip + s * noise: E[noise - clip | x], where both are jointly normal with x.
    """

    def __init__(self, mean: float = 0.5, deviation: float = 0.8) -> None:
        super().__init__()
        self.mean, self.log_deviation = nn.Parameter(torch.tensor(mean)), nn.Parameter(torch.tensor(deviation).log())
        self.config = SimpleNamespace(patch_size=(1, 2, 2), in_channels=SHAPE[0])

    def forward(self, x: Tensor, timestep: Tensor, text: Tensor, return_dict: bool = False) -> tuple[Tensor]:
        s = (timestep / 1000).view(-1, 1, 1, 1, 1)
        variance = self.log_deviation.exp() ** 2
        gain = (s - (1 - s) * variance) / (s**2 + (1 - s) ** 2 * variance)
        return (gain * (x - (1 - s) * self.mean) - self.mean,)


def tiny_wan(seed: int = 0) -> Any:
    """A WanTransformer3DModel of a few thousand random weights, none of them zero."""
    from diffusers import WanTransformer3DModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network: Any = WanTransformer3DModel(**TRANSFORMER)
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.2) if not parameter.any() else None
    return network


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def words(count: int, dim: int = 16, *, seed: int = 7) -> Conditions:
    return Conditions(normal(count, 5, dim, seed=seed))
