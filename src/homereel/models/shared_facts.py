"""What the facts of every family have in common: they come from a folder in diffusers layout and its card.

A family's facts add its shapes and what it takes; `able_to_compute` makes of them a family with networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

from homereel.core.model import Defaults
from homereel.core.plan import Plan
from homereel.core.protocols import Family
from homereel.core.request import Request
from homereel.models.card import FolderCard
from homereel.weights.model_folder import ModelFolder
from homereel.weights.safetensors_file import TensorInfo

ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class FolderFacts:
    """The part of `ModelFacts` that is alike for all; `base_…` is what holds where the folder's card says nothing."""

    model: str
    folder: ModelFolder
    card: FolderCard
    base_defaults: Defaults
    base_max_tokens: int

    @property
    def defaults(self) -> Defaults:
        return self.card.defaults.over(self.base_defaults)

    @property
    def readers(self) -> frozenset[str]:
        return frozenset({"text_encoder"})

    def compares_words(self, plan: Plan) -> bool:
        return max(plan.guidance, plan.guidance_2 or 1) > 1

    @property
    def max_tokens(self) -> int:
        """The text's length in tokens, with its padding if the family pads, without an instruction before it."""
        return self.card.max_sequence_length or self.base_max_tokens

    def tensors(self, component: str) -> Mapping[str, TensorInfo]:
        """What of the component's files is loaded."""
        return self.folder.tensors(component)

    def weight_bytes(self, component: str, *, dtype: str) -> int:
        return sum(math.prod(tensor.shape) for tensor in self.tensors(component).values()) * ITEM_BYTES[dtype]

    def vocabulary(self) -> tuple[str, ...]:
        return ()

    def too_long(self, field: str, *, num_cut: int) -> tuple[str, ...]:
        """The remark on a text of which so many tokens are beyond the model's reach; none if none are."""
        return (f"the {field} is {num_cut} tokens too long for {self.model}; its end is not heeded",) if num_cut else ()


def able_to_compute(facts: FolderFacts, family: Callable[..., Family]) -> Family:
    """The same model with its networks: the family's class takes the fields of its facts."""
    return family(**{field.name: getattr(facts, field.name) for field in fields(facts)})


def texts_of(request: Request) -> tuple[tuple[str, str], ...]:
    """What a model reads, and what that is called in a remark."""
    return ("prompt", request.prompt), ("negative prompt", request.negative_prompt)
