"""What each family says of its single files: how they are recognised, renamed, and what their shapes tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from homereel.models.single_file.names import Renamed, Shape

Shapes: TypeAlias = Mapping[str, Shape]
Figures: TypeAlias = dict[str, Any]  # keys of config.json that shapes decide, and the network's width as "width"


@dataclass(frozen=True)
class Variant:
    """A kind of a family's network, and the model of the catalogue that has the other parts for it."""

    title: str
    base: str
    experts_base: str = ""  # the model of two such networks, if there is one
    pipeline: str = ""  # for model_index.json; empty: as the base has it
    index: Mapping[str, Any] = field(default_factory=dict)  # further entries of model_index.json
    experts_index: Mapping[str, Any] = field(default_factory=dict)  # the same for two experts


@dataclass(frozen=True)
class Family:
    """One family. `strict`: the base's transformer must have the same figures, as its other parts hang on them."""

    name: str
    title: str
    pipelines: tuple[str, ...]
    recognises: Callable[[Shapes], bool]
    rename: Callable[[Shapes], Renamed]
    network: Callable[[Shapes], str]
    figures: Callable[[Shapes], Figures]
    variant: Callable[[Figures], Variant | None]
    hidden: Callable[[Figures], dict[str, Any] | None]  # keys that no shape decides, for networks that are known
    strict: bool
    keeps_int8: bool = False  # its networks can be loaded with linear layers that are kept in int8
