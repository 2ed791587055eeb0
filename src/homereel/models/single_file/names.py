"""From a tensor's name in another layout to its name in diffusers: tables of modules, outside and inside blocks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from homereel.core.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, ...]
_BLOCK = re.compile(r"(?P<blocks>[a-z_0-9.]+?)\.(?P<number>[0-9]{1,6})\.(?P<rest>.+)")


@dataclass(frozen=True)
class Source:
    """Where a tensor comes from: a tensor of the file, whole or one third of its rows, and what is done to it."""

    name: str
    third: int | None = None  # of queries, keys and values, which some layouts keep in one tensor
    swapped: bool = False  # its two halves change places
    shape: Shape | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it is taken as it is."""
        return self.third is None and not self.swapped and self.shape is None

    def shape_of(self, stored: Shape) -> Shape:
        """The shape that it will have."""
        if self.third is not None:
            if stored[0] % 3:
                raise WeightsError(f"{self.name} of shape {stored} does not hold queries, keys and values")
            stored = (stored[0] // 3, *stored[1:])
        return self.shape or stored

    def take(self, tensor: Tensor) -> Tensor:
        """The tensor made from the file's."""
        if self.third is not None:
            tensor = tensor.chunk(3, dim=0)[self.third]
        if self.swapped:
            first, second = tensor.chunk(2, dim=0)
            tensor = _joined(second, first)
        return tensor if self.shape is None else tensor.reshape(self.shape)


@dataclass(frozen=True)
class Renamed:
    """The network's tensors by their names in diffusers, and names that belong to other networks or to nothing.

    `projections` are those of tuned sparse attention, which diffusers' networks have no place for.
    """

    sources: Mapping[str, Source]
    others: Mapping[str, str] = field(default_factory=dict)  # name → what it belongs to
    unknown: tuple[str, ...] = ()
    projections: Mapping[str, Source] = field(default_factory=dict)


def translate(name: str, *, outside: Mapping[str, str], inside: Mapping[str, Mapping[str, str]]) -> str | None:
    """The name in diffusers: `outside` maps modules, `inside` those of a row of blocks; None if it is not known."""
    match = _BLOCK.fullmatch(name)
    if match is not None and match["blocks"] in inside:
        module, leaf = split_leaf(match["rest"])
        blocks = outside.get(match["blocks"], match["blocks"])
        known = inside[match["blocks"]].get(module)
        return None if known is None else f"{blocks}.{match['number']}.{known}{leaf}"
    module, leaf = split_leaf(name)
    known = outside.get(module)
    return None if known is None else known + leaf


def split_leaf(name: str) -> tuple[str, str]:
    """A module's name, and ".weight" or ".bias" if the name ends so."""
    for leaf in (".weight", ".bias"):
        if name.endswith(leaf):
            return name.removesuffix(leaf), leaf
    return name, ""


def num_blocks(names: Iterable[str], blocks: str) -> int:
    """How many blocks there are, whose numbers must have no gaps."""
    row = re.compile(re.escape(blocks) + r"\.([0-9]{1,6})\..+")
    numbers = {int(match[1]) for match in map(row.fullmatch, names) if match is not None}
    for number in range(len(numbers)):
        if number not in numbers:
            raise WeightsError(f"{blocks}.{number} is missing from the file, which has later ones; fetch it again")
    return len(numbers)


def _joined(first: Tensor, second: Tensor) -> Tensor:
    import torch

    return torch.cat([first, second], dim=0)
