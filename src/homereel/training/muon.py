"""Muon (Jordan et al., 2024): momentum, orthogonalised. For matrices and convolution kernels; the rest takes AdamW.

`torch.optim.Muon` takes matrices only; here a kernel (out, in, …) counts as a matrix (out, in·…), parameters of one
shape are orthogonalised in one batch, and the work is shared among the ranks of a run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Updates have the root-mean-square size of AdamW's (factor 0.2·√max(shape)), so learning rates are comparable."""

    def __init__(
        self, params: Iterable[Tensor], *, lr: float = 1e-3, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """One update from the gradients; parameters without a gradient are left alone."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    by_shape[(p.shape[0], p[0].numel())].append(p)
            for shape, params in by_shape.items():
                self._update(params, shape, group)

    def _update(self, params: list[Tensor], shape: tuple[int, int], group: dict[str, float]) -> None:
        gradients = []
        for p in params:
            gradient = p.grad.reshape(shape).float()  # type: ignore[union-attr]
            buffer = self.state[p].setdefault("momentum", torch.zeros_like(gradient))
            buffer.lerp_(gradient, 1 - group["momentum"])
            gradients.append(gradient.lerp(buffer, group["momentum"]))
        updates = _shared(torch.stack(gradients)) * (0.2 * max(shape) ** 0.5)
        for p, update in zip(params, updates, strict=True):
            if group["weight_decay"]:
                p.mul_(1 - group["lr"] * group["weight_decay"])
            p.add_(update.view(p.shape).to(p.dtype), alpha=-group["lr"])


def _shared(gradients_NOI: Tensor) -> Tensor:
    """Orthogonalise a batch, each rank of a distributed run taking its part of it."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return orthogonalise(gradients_NOI)
    updates = torch.zeros_like(gradients_NOI)
    mine = slice(torch.distributed.get_rank(), None, torch.distributed.get_world_size())
    if len(gradients_NOI[mine]):
        updates[mine] = orthogonalise(gradients_NOI[mine])
    torch.distributed.all_reduce(updates)
    return updates


def orthogonalise(gradients_NOI: Tensor, *, num_iterations: int = 5) -> Tensor:
    """Nearest semi-orthogonal matrices of a batch (N, out, in), by a quintic Newton-Schulz iteration.

    Runs in bfloat16 on a GPU, where that is the fast type, and in float32 on a CPU.
    """
    a, b, c = NEWTON_SCHULZ
    x = gradients_NOI.bfloat16() if gradients_NOI.is_cuda else gradients_NOI
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.float().norm(dim=(-2, -1), keepdim=True).to(x.dtype) + 1e-7)
    for _ in range(num_iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).float()
