"""Several processes that train one model: one a GPU, or one a CPU core. Gradients are averaged in one flat vector.

A run of one process needs none of this and pays nothing for it. Where torchrun started this process, on one machine of
several, `spawn` starts nothing and joins those that torchrun started beside it.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import Any

import torch
from torch import Tensor

from homereel.core.environment import Launcher, read_environment, read_launcher


@dataclass(frozen=True)
class Rank:
    """This process's place among `count`, and the device that it computes on."""

    index: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        """Whether this process logs and saves."""
        return self.index == 0

    def autocast(self) -> torch.autocast:
        """bfloat16 where it is the fast type: on CUDA, and on CPUs with AMX; float32 elsewhere; users may choose
        another (`Environment.dtype`).
        """
        told = read_environment().dtype
        known = self.device.type == "cuda" or torch.cpu._is_amx_tile_supported()
        fast = known if told is None else told == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=fast)

    def average_gradients(self, params: Iterable[Tensor]) -> float:
        """Replace each gradient by its mean over the ranks; returns the norm of the whole gradient."""
        gradients = [p.grad for p in params if p.grad is not None]
        if not gradients:
            return 0.0
        if self.count == 1:
            return float(torch.nn.utils.get_total_norm(gradients))
        flat = torch.cat([g.reshape(-1) for g in gradients])
        torch.distributed.all_reduce(flat)
        flat /= self.count
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))
        return float(flat.norm())

    def any(self, flag: bool) -> bool:
        """Whether the flag is up on any rank, so that all stop at the same step."""
        if self.count == 1:
            return flag
        votes = torch.tensor([float(flag)], device=self.device)
        torch.distributed.all_reduce(votes)
        return bool(votes.item() > 0)

    def agreed(self, value: float) -> float:
        """What the first rank says, for whatever all must do alike."""
        if self.count == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(told, src=0)
        return float(told.item())


def default_rank_count() -> int:
    """One process a GPU; without one, a process a core up to four (each runs single-threaded)."""
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 4)


def spawn(work: Callable[..., None], *arguments: Any, count: int) -> None:
    """Run `work(rank, *arguments)` in `count` processes and wait; an exception in one ends all and is raised.

    Under torchrun it runs in this process, as one of those that are there, whatever `count` says.
    """
    launcher = read_launcher()
    if launcher is not None:
        work(_join_launched(launcher), *arguments)
        torch.distributed.barrier()
        return
    if count == 1:
        work(_join(0, 1, port=0), *arguments)
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    from torch.multiprocessing.spawn import spawn as start

    start(_entry, (work, count, port, arguments), nprocs=count)


def _join_launched(launcher: Launcher) -> Rank:
    """torchrun says where the others are; the group stays for the next call."""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", launcher.local_rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if cuda else "gloo", rank=launcher.rank, world_size=launcher.count)
    return Rank(launcher.rank, launcher.count, device)


def _entry(index: int, work: Callable[..., None], count: int, port: int, arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        work(_join(index, count, port=port), *arguments)
    finally:
        torch.distributed.destroy_process_group()


def _end_with_parent() -> None:
    """A rank whose parent was killed has nobody left to report to; SIGINT, torch's way, is deaf under nohup."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _join(index: int, count: int, *, port: int) -> Rank:
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", index) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    elif count > 1:
        torch.set_num_threads(1)
    if count > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        torch.distributed.init_process_group("nccl" if cuda else "gloo", rank=index, world_size=count)
    return Rank(index, count, device)
