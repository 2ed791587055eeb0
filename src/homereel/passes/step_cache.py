"""Steps that are not computed: what all blocks together would add is told from the steps before.

Three ways to decide and to tell, by one pair of hooks:
    first_block   the first block is always computed; if it adds about what it added before, so will the rest
                  (first-block cache, after TeaCache, Liu et al. 2024, arXiv 2411.19108)
    mag           by how much the sum is known to grow from step to step on this model (Ma et al. 2025,
                  arXiv 2506.09045)
    taylor        every few steps are computed, those between are foretold by differences (TaylorSeer, Liu et al. 2025,
                  arXiv 2503.06923), for all blocks together, which takes a hundredth of the memory
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from homereel.core.errors import UnsupportedPass
from homereel.core.machine import Machine
from homereel.core.protocols import Component, Family, Undo
from homereel.passes.blocks import blocks_of
from homereel.passes.cache_hooks import cache_steps, forget_steps
from homereel.passes.cache_rules import FirstBlock, Magnitudes, Rule, Taylor
from homereel.passes.technique import Technique, number, refuse_setting, setting

# Arguments of a block that it gives back, in order: what a step that is left out has to tell.
STREAMS: Mapping[str, tuple[str, ...]] = {
    "wan": ("hidden_states",),
    "joint": ("hidden_states", "encoder_hidden_states"),
    "two streams": ("hidden_states", "audio_hidden_states"),
}
THRESHOLDS = {"first_block": 0.05, "mag": 0.06, "taylor": 0.0}


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split("+"))


@dataclass(frozen=True)
class StepCache(Technique):
    """`threshold` is how far a foretold step may be off, for first_block and mag; at 0 every step is computed.

    Taylor computes every `interval`-th step. At most `max_skips` steps after another are left out, and none in the
    first share `warm_up` of a clip. `ratios` are a model's own for mag, where they were not measured yet.
    """

    name: ClassVar[str] = "step_cache"
    exactness: ClassVar[str] = "approximate"
    remembers: ClassVar[bool] = True
    method: str = setting("first_block", read=str)
    threshold: float | None = setting(None, read=float, write=number)
    interval: int = setting(3, read=int)
    order: int = setting(1, read=int)
    max_skips: int = setting(3, read=int)
    warm_up: float = setting(0.2, read=float, write=number)
    ratios: tuple[float, ...] = setting((), read=_numbers, write=lambda values: "+".join(map(number, values)))

    def __post_init__(self) -> None:
        if self.method not in THRESHOLDS:
            raise refuse_setting(self.name, f"there is no method {self.method!r}; choose {', '.join(THRESHOLDS)}")
        if self.threshold is not None and (not 0 <= self.threshold < math.inf or self.method == "taylor"):
            raise refuse_setting(self.name, "threshold is a number from 0, and taylor has none but its interval")
        if self.interval < 1 or not 0 <= self.order <= 3 or self.max_skips < 1 or not 0 <= self.warm_up <= 1:
            raise refuse_setting(
                self.name, "interval and max_skips are counts from 1, order is 0 to 3, warm_up a share from 0 to 1"
            )

        if not all(0 < ratio < math.inf for ratio in self.ratios):
            raise refuse_setting(self.name, "ratios are numbers above 0, with + between")

    def check(self, family: Family, machine: Machine) -> None:  # noqa: ARG002  # any machine
        blocks = family.block_facts
        if blocks.layout not in STREAMS:
            raise UnsupportedPass(f"{self.name}: the blocks of {family.model} are not known; leave it out")
        if blocks.num_blocks < 2:
            raise UnsupportedPass(f"{self.name}: {family.model} has one block, so nothing can be left out")
        if self.method == "mag" and not (self.ratios or blocks.residual_ratios):
            raise UnsupportedPass(
                f"{self.name}:mag was not measured on {family.model}; use {self.name}:first_block, which needs no "
                "measurement, or give ratios=1+0.99+…, one a step"
            )

    def apply(self, component: Component, family: Family) -> Undo:
        blocks = blocks_of(component, family, name=self.name, side=False)
        return cache_steps(
            component, blocks, streams=STREAMS[family.block_facts.layout], rule=self.rule(family), name=self.name
        )

    def start(self, component: Component) -> None:
        forget_steps(component)

    def rule(self, family: Family) -> Rule:
        """Which steps are left out, and what is told instead."""
        if self.method == "taylor":
            return Taylor(interval=self.interval, order=self.order, warm_up=self.warm_up)
        threshold = THRESHOLDS[self.method] if self.threshold is None else self.threshold
        if self.method == "first_block":
            return FirstBlock(threshold=threshold, max_skips=self.max_skips, warm_up=self.warm_up)
        ratios = self.ratios or family.block_facts.residual_ratios
        return Magnitudes(ratios=ratios, threshold=threshold, max_skips=self.max_skips, warm_up=self.warm_up)
