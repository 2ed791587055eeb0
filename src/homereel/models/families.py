"""Which families there are: one line each. A new family is a line here, its module, and an entry of the catalogue."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from homereel.core.protocols import ModelFacts
from homereel.models.card import ModelCard
from homereel.weights.model_folder import ModelFolder


class OpenFamily(Protocol):
    """Makes one of a family's models from its folder; with `compute` the result is a `Family`.

    `card` is the catalogue's entry, None for a folder that the catalogue does not know. Raises WeightsError.
    """

    def __call__(self, *, name: str, folder: ModelFolder, card: ModelCard | None, compute: bool) -> ModelFacts: ...


@dataclass(frozen=True)
class FamilyEntry:
    """`opener` is "module:function" within this room; `pipelines` are what model_index.json calls its models."""

    opener: str
    pipelines: tuple[str, ...]

    def open(self, **what: Any) -> ModelFacts:
        """See `OpenFamily`."""
        module, function = self.opener.split(":")
        opener: OpenFamily = getattr(importlib.import_module(f"homereel.models.{module}"), function)
        return opener(**what)


FAMILIES: Mapping[str, FamilyEntry] = {
    "wan": FamilyEntry("wan.open:open_wan", ("WanPipeline", "WanImageToVideoPipeline", "WanVACEPipeline")),
    "ltx-2": FamilyEntry("ltx.open:open_ltx", ("LTX2Pipeline", "LTX2ImageToVideoPipeline", "LTX2ConditionPipeline")),
    "hunyuanvideo-1.5": FamilyEntry(
        "hunyuan.open:open_hunyuan", ("HunyuanVideo15Pipeline", "HunyuanVideo15ImageToVideoPipeline")
    ),
    "skyreels-v2": FamilyEntry(
        "skyreels.open:open_skyreels",
        ("SkyReelsV2DiffusionForcingPipeline", "SkyReelsV2DiffusionForcingImageToVideoPipeline"),
    ),
}


def family_of_pipeline(pipeline: str) -> str | None:
    """The family that understands this pipeline, or None."""
    return next((name for name, entry in FAMILIES.items() if pipeline in entry.pipelines), None)


def known_pipelines() -> tuple[str, ...]:
    """For messages."""
    return tuple(sorted(pipeline for entry in FAMILIES.values() for pipeline in entry.pipelines))
