"""Which steps a step cache leaves out, and what it tells instead: three rules over what it remembers of a pass.

What all blocks add to their input, or all but the first to the first one's output, is called the rest here; one
tensor a stream.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

Streams = tuple[Tensor, ...]


@dataclass
class Memory:
    """What is remembered of one kind of pass, such as that with the prompt, through one clip.

    `rests` holds the last rest and its differences (first order first), each a step's worth of change; `skips` counts
    the steps left out since the last one computed.
    """

    step: int = -1
    skips: int = 0
    rests: list[Streams] = field(default_factory=list)
    first: Tensor | None = None  # what the first block added at the last step that was computed
    growth: float = 1.0  # by the ratios, since the last step computed
    error: float = 0.0  # summed up over the steps left out


class Rule(Protocol):
    """When to leave a step out. `after_first` rules are asked when the first block is done, others before it."""

    @property
    def after_first(self) -> bool: ...

    @property
    def order(self) -> int:
        """How many differences are kept; 0 repeats the last rest."""
        ...

    def skips(self, memory: Memory, *, step: int, num_steps: int, added: Tensor | None) -> bool:
        """Whether the rest is told instead of computed. `added` is what the first block added, if it was computed."""
        ...


@dataclass(frozen=True)
class FirstBlock:
    threshold: float
    max_skips: int
    warm_up: float

    after_first = True
    order = 0

    def skips(self, memory: Memory, *, step: int, num_steps: int, added: Tensor | None) -> bool:
        assert added is not None, "the first block is computed"
        known, enough = memory.first, memory.skips >= self.max_skips
        if known is None or enough or step < round(self.warm_up * num_steps) or known.shape != added.shape:
            memory.first = added
            return False
        change = (added - known).abs().mean(dtype=torch.float32) / known.abs().mean(dtype=torch.float32)
        if float(change) < self.threshold:
            return True
        memory.first = added
        return False


@dataclass(frozen=True)
class Magnitudes:
    """`ratios` are over the steps of a clip, as many as were measured: the nearest is taken."""

    ratios: tuple[float, ...]
    threshold: float
    max_skips: int
    warm_up: float

    after_first = False
    order = 0

    def skips(self, memory: Memory, *, step: int, num_steps: int, added: Tensor | None) -> bool:  # noqa: ARG002
        if not memory.rests or step < round(self.warm_up * num_steps):
            return False
        memory.growth *= self.ratio_at(step, num_steps=num_steps)
        memory.error += abs(1 - memory.growth)
        if memory.error < self.threshold and memory.skips < self.max_skips:
            return True
        memory.growth, memory.error = 1.0, 0.0
        return False

    def ratio_at(self, step: int, *, num_steps: int) -> float:
        """The ratio of the measured step at the same share of the clip."""
        last = len(self.ratios) - 1
        return self.ratios[min(last, round(step * last / max(1, num_steps - 1)))]


@dataclass(frozen=True)
class Taylor:
    interval: int
    order: int
    warm_up: float

    after_first = False

    def skips(self, memory: Memory, *, step: int, num_steps: int, added: Tensor | None) -> bool:  # noqa: ARG002
        warm = max(self.order + 1, round(self.warm_up * num_steps))
        return bool(memory.rests) and step >= warm and memory.skips < self.interval - 1


def told(memory: Memory, *, step: int) -> Streams:
    """The rest of a step that is left out: the last one, and its differences over the steps since then."""
    ahead = step - memory.step
    total, factor = list(memory.rests[0]), 1.0
    for order, differences in enumerate(memory.rests[1:], start=1):
        factor *= ahead / order
        total = [known + factor * difference for known, difference in zip(total, differences, strict=True)]
    return tuple(total)


def remember(memory: Memory, rest: Streams, *, step: int, order: int) -> None:
    """Keep the rest of a step that was computed, and up to `order` differences to those before."""
    rests, apart = [rest], step - memory.step
    for before in memory.rests[:order]:
        if before[0].shape != rests[-1][0].shape:
            break
        newer = rests[-1]
        rests.append(tuple((new - old) / apart for new, old in zip(newer, before, strict=True)))
    memory.rests, memory.step, memory.skips = rests, step, 0
