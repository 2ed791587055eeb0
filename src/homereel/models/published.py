"""A model that is not on this machine, as far as plans need it: the figures that its makers published, no files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from homereel.core.errors import WeightsError
from homereel.core.protocols import ModelFacts
from homereel.core.request import Request
from homereel.models.card import ModelCard
from homereel.models.catalogue.published import PUBLISHED, Published
from homereel.models.families import FAMILIES
from homereel.models.registry import find_card, is_catalogued, model_facts, model_folder
from homereel.weights.model_folder import ModelFolder
from homereel.weights.safetensors_file import TensorInfo


def plannable_facts(model: str | None) -> tuple[ModelFacts, ModelCard | None]:
    """The model as its files say it; of one that is not here its published figures, and its card.

    Raises as `model_facts` does, and WeightsError for a model of which nothing was published.
    """
    if model is None or not is_catalogued(model) or model_folder(model) is not None:
        return model_facts(model), None
    card = find_card(model)
    if card.id not in PUBLISHED:
        return model_facts(model), None
    return published_facts(card), card


def published_facts(card: ModelCard) -> ModelFacts:
    """The facts of a model of the catalogue, wherever it is. Raises WeightsError if its figures are not known."""
    if card.id not in PUBLISHED:
        raise WeightsError(f"what {card.id} looks like inside is not known; `homereel models pull {card.id}` tells")
    folder = PublishedFolder(Path(card.repo or card.id), PUBLISHED[card.id])
    facts = FAMILIES[card.family].open(name=card.id, folder=folder, card=card, compute=False)
    return cast("ModelFacts", _Unread(facts))


@dataclass(frozen=True, eq=False)
class PublishedFolder(ModelFolder):
    """Answers as the model's folder would: with configurations, and a count in the place of tensors."""

    published: Published

    def json(self, name: str) -> dict[str, Any]:
        if name not in self.published.files:
            raise WeightsError(f"{self.path} is not on this machine, and what its {name} says is not known")
        return dict(self.published.files[name])

    def has(self, name: str) -> bool:
        return name in self.published.files

    def weight_files(self, component: str) -> tuple[Path, ...]:
        raise WeightsError(f"{self.path} is not on this machine: there is no {component}")

    def tensors(self, component: str) -> dict[str, TensorInfo]:
        count = self.published.weights[component]
        return {_ANY_NAME: TensorInfo("BF16", (count,), 0, 2 * count)}


# A name that the part of LTX-2's text encoder which reads would have, too.
_ANY_NAME = "model.language_model.weights"


class _Unread:
    """A model whose vocabulary is not here: what it would say of words is left out."""

    def __init__(self, facts: ModelFacts) -> None:
        self._facts = facts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._facts, name)

    def remarks(self, request: Request) -> tuple[str, ...]:
        """Raises InvalidRequest as the model itself would."""
        try:
            return self._facts.remarks(request)
        except WeightsError:
            return ()

    def files(self) -> Mapping[str, Path]:
        return {}
