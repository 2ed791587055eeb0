"""Norms in one with what follows them: rotary positions of queries and keys, and the blocks' modulation.

Where the layers behind a norm are in 8 bits, it also quantises. How a block of each layout is computed so stands in
`fused_wan`, `fused_joint` and `fused_streams`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch

from homereel.core.errors import UnsupportedPass
from homereel.core.machine import Machine
from homereel.core.protocols import Component, Family, Undo
from homereel.kernels.fused_norm import support
from homereel.passes.blocks import Changes, blocks_of
from homereel.passes.fused_joint import fuse_joint_block
from homereel.passes.fused_streams import fuse_streams_block
from homereel.passes.fused_wan import fuse_wan_block
from homereel.passes.remembered import remember
from homereel.passes.technique import Technique


class FuseBlock(Protocol):
    """Changes one block; blocks beside the chain (`in_chain` is false) have a way of their own through it.

    Raises UnsupportedPass if the block is not what its layout says.
    """

    def __call__(self, block: Component, *, in_chain: bool, changes: Changes, name: str, family: Family) -> None: ...


LAYOUTS: Mapping[str, FuseBlock] = {
    "wan": fuse_wan_block,
    "joint": fuse_joint_block,
    "two streams": fuse_streams_block,
}


@dataclass(frozen=True)
class FusedNorms(Technique):
    """Exact but for rounding: norm and modulation are rounded once instead of twice."""

    name: ClassVar[str] = "fused_norms"

    def check(self, family: Family, machine: Machine) -> None:
        blocks = family.block_facts
        if blocks.layout not in LAYOUTS:
            raise UnsupportedPass(
                f"{self.name}: the blocks of {family.model} are not known; compile fuses the norms of any family"
            )
        if machine.device == "cpu":
            return
        reason = support(device=torch.device(machine.device), num_channels=blocks.num_heads * blocks.head_size)
        if reason is not None:
            raise UnsupportedPass(f"{self.name}: {reason}; compile fuses the norms of any family")

    def apply(self, component: Component, family: Family) -> Undo:
        changes, blocks = Changes(), family.block_facts
        fuse = LAYOUTS[blocks.layout]
        try:
            for index, block in enumerate(blocks_of(component, family, name=self.name, side=True)):
                fuse(block, in_chain=index < blocks.num_blocks, changes=changes, name=self.name, family=family)
            if blocks.layout == "wan":  # else what is made of the words would be new in every step
                words: Any = getattr(component, "condition_embedder", None)
                remember(getattr(words, "text_embedder", None), changes=changes)
        except BaseException:
            changes.undo()
            raise
        return changes.undo
