"""What each of two ranks does in a test: in a file of its own, so that a rank's process imports little."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from homereel.training.muon import Muon
from homereel.training.ranks import Rank


def two_ranks(rank: Rank, folder: Path) -> None:
    """One step of Muon on gradients of which the mean is known; each rank writes down what it has then."""
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    optimizer = Muon([net.weight], lr=0.1)
    net(torch.full((1, 3), float(rank.index + 1))).sum().backward()
    norm = rank.average_gradients(net.parameters())
    optimizer.step()
    (folder / f"{rank.index}.txt").write_text(f"{norm} {net.weight.tolist()} {net.weight.grad.tolist()}")  # type: ignore[union-attr]
    assert rank.any(rank.index == 1)
