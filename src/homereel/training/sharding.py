"""Large networks shared out among the ranks (FSDP2): each holds a part of every weight, gradient and moment.

Shared weights are DTensors. Checkpoints hold whole tensors, so that a run may go on with another number of ranks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from homereel.training.ranks import Rank


def share_out(network: Any, blocks: Iterable[nn.Module], rank: Rank) -> None:
    """Share out each block, then what is left, in place. Every rank must have built the same network.

    On a GPU blocks compute in bfloat16 from float32 weights.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(rank.device.type, (rank.count,))
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16 if rank.device.type == "cuda" else None)
    for block in blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    network.register_forward_hook(_as_no_view)
    fully_shard(network, mesh=mesh, mp_policy=policy)


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor that may be shared out; then every rank must ask for it."""
    return tensor.full_tensor() if _is_shared(tensor) else tensor  # type: ignore[attr-defined]


def as_shared_as(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, shared out as another of its shape is."""
    value = value.to(like.device)
    if not _is_shared(like) or value.shape != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    shared: Any = like
    return distribute_tensor(value, shared.device_mesh, shared.placements)


def _as_no_view(_network: nn.Module, _given: Any, output: Any) -> Any:
    """FSDP2 hangs its work on the output, which must be no view of another tensor."""
    return tuple(tensor.clone() for tensor in output) if isinstance(output, tuple) else output


def _is_shared(tensor: Tensor) -> bool:
    if not torch.distributed.is_available():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)
