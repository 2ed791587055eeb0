"""Keeps some of a denoiser's blocks on the device, and brings the others there just before they compute.

The numbers are the same bits wherever they lie, so this is exact. See `residency_lane.py` for how they travel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn

from homereel.core.errors import UnsupportedPass
from homereel.core.machine import Machine
from homereel.core.protocols import Component, Family, Pass, Undo
from homereel.passes.blocks import Changes, blocks_of
from homereel.passes.residency_home import home_of
from homereel.passes.residency_lane import Lane
from homereel.passes.technique import Technique

Source: TypeAlias = Literal["memory", "disk"]


@dataclass(frozen=True)
class StreamBlocks(Technique):
    """`resident` blocks stay on the device, spread evenly, so that every copy has computation to hide behind.

    Blocks beside the main ones (VACE's) are streamed when theirs are: they count after them. `shared` lets two experts
    have one place on the device: each brings its blocks with its first pass while that computes.
    """

    # What is replaced can be loaded again from files, and to undo would want all of it in the host's memory at once.
    undo_holds_weights: ClassVar[bool] = True
    name: ClassVar[str] = "residency"
    resident: int
    device: str
    source: Source = "memory"
    shared: bool = False
    lane: Lane = field(default_factory=Lane, compare=False, repr=False)

    @property
    def spec(self) -> str:
        return f"{self.name}:{self.resident}:{self.source}"

    def check(self, family: Family, machine: Machine) -> None:  # noqa: ARG002  # it needs nothing of one
        """Every family whose blocks are known can be streamed."""
        if self.resident < 0:
            raise UnsupportedPass(f"{self.name}: {self.resident} blocks of {family.model} cannot stay; give 0 or more")

    def apply(self, component: Component, family: Family) -> Undo:
        """All that is no block goes to the device for good; a block's parameters tell where it lies at the moment."""
        blocks = blocks_of(component, family, name=self.name, side=True)
        staying = resident_blocks(len(blocks), self.resident)
        changes = Changes()
        try:
            self._place_outside(component, blocks, changes=changes)
            travelling = [index for index in range(len(blocks)) if index not in staying or self.shared]
            homes = {
                index: home_of(blocks[index], source=self.source, pin=torch.device(self.device).type == "cuda")
                for index in travelling
            }
            for home in homes.values():
                changes.then(home.bring_back)
            for index in sorted(staying - homes.keys()):
                _move(blocks[index], self.device, changes=changes)
            route = self.lane.join(
                [homes[index] for index in travelling],
                places=[sorted(staying).index(index) if index in staying else None for index in travelling],
                num_places=len(staying) if self.shared else 0,
                device=torch.device(self.device),
            )
            changes.then(route.leave)
            for stop, index in enumerate(travelling):
                changes.set_forward(blocks[index], _fetched_first(blocks[index].forward, route.arrive, stop=stop))
        except BaseException:
            changes.undo()
            raise
        return changes.undo

    def place_outside(self, component: Component, family: Family) -> None:
        """All that is no block to the device, before other passes look where the denoiser is."""
        blocks = blocks_of(component, family, name=self.name, side=True)
        self._place_outside(component, blocks, changes=Changes())

    def _place_outside(self, component: nn.Module, blocks: Sequence[nn.Module], *, changes: Changes) -> None:
        in_blocks = {id(module) for block in blocks for module in block.modules()}
        for module in component.modules():
            if id(module) not in in_blocks:
                _move(module, self.device, changes=changes, recurse=False)


def with_residency(passes: Sequence[Pass], streaming: StreamBlocks | None) -> tuple[Pass, ...]:
    """The passes with this one in its place: after all that changes or compiles blocks, before a cache that skips
    blocks, so that what is skipped is not fetched.
    """
    if streaming is None:
        return tuple(passes)
    first = next((index for index, each in enumerate(passes) if each.remembers), len(passes))
    return (*passes[:first], streaming, *passes[first:])


def resident_blocks(num_blocks: int, num_resident: int) -> set[int]:
    """Which blocks stay: evenly spread, and such that between two that travel lie as many as can be."""
    num_resident = min(num_resident, num_blocks)
    num_travelling = num_blocks - num_resident
    travelling = {(2 * each + 1) * num_blocks // (2 * num_travelling) for each in range(num_travelling)}
    return set(range(num_blocks)) - travelling


def _fetched_first(forward: Callable[..., Any], arrive: Callable[[int], Callable[[], None]], *, stop: int) -> Any:
    @wraps(forward)  # whoever asks what a block takes shall hear it
    def fetched(*args: Any, **kwargs: Any) -> Any:
        depart = arrive(stop)
        try:
            return forward(*args, **kwargs)
        finally:
            depart()

    return fetched


def _move(module: nn.Module, device: str, *, changes: Changes, recurse: bool = True) -> None:
    """Parameters and buffers to the device; undone, they are the very tensors that they were."""
    tensors = (*module.parameters(recurse=recurse), *module.buffers(recurse=recurse))
    for tensor in tensors:
        old = tensor.data
        if old.device.type != torch.device(device).type:
            tensor.data = old.to(device)
            changes.then(partial(_set, tensor, old))


def _set(tensor: Tensor, data: Tensor) -> None:
    tensor.data = data
