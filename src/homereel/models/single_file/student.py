"""Students of Wan in few steps that were tuned with sparse attention: TurboWan. They are known by their projections."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from homereel.core.errors import WeightsError
from homereel.models.card import ClipCard, ModelCard
from homereel.models.catalogue.turbowan import TURBOWAN
from homereel.models.single_file.identify import Network
from homereel.weights.model_folder import TUNED_PROJECTION

# In the words of `homereel.passes`: as the students were tuned, in every layer and at every step.
SPARSE_PASS = "sparse_attention:0.1:first_layers=0:first_steps=0"
INT8_PASS = "int8_block"
_BY_BASE = {"wan2.1-t2v-1.3b": "2.1-t2v-1.3b", "wan2.1-t2v-14b": "2.1-t2v-14b", "wan2.2-i2v-a14b": "2.2-i2v-a14b"}
# What of a card holds for a student of any size.
_SETTINGS = {"steps", "guidance", "shift", "sampler", "sigma_max"}


def check_projections(networks: Mapping[str, Network], configs: Mapping[str, Mapping[str, Any]]) -> None:
    """Every block must have its projection, or none; with two experts both. Raises WeightsError."""
    tuned = [network for network in networks.values() if network.projections]
    if tuned and len(tuned) < len(networks):
        plain = next(network for network in networks.values() if not network.projections)
        raise WeightsError(f"the attention of {tuned[0].file} was tuned to be sparse, that of {plain.file} was not")
    for component, network in networks.items():
        if network.projections:
            _check_complete(network, configs[component])


def student_clip(network: Network, *, base: str, two_experts: bool) -> ClipCard:
    """Its settings, and its standard clip if it is one of the published sizes; `base` is the catalogue's model."""
    card = _published(network, base)
    if card is not None:
        clip = card.defaults
    else:
        from_picture = network.figures["in_channels"] != network.figures["out_channels"]
        kind = "image-to-video" if from_picture else "text-to-video"
        clip = next(card for card in TURBOWAN if kind in card.tasks).defaults
        clip = ClipCard.model_validate(clip.model_dump(include=_SETTINGS))
    return clip.model_copy(update={"guidance_2": clip.guidance}) if two_experts else clip


def _published(network: Network, base: str) -> ModelCard | None:
    """The student in the catalogue; where there are two of one size, the file's name tells."""
    if base not in _BY_BASE:
        return None
    alike = [card for card in TURBOWAN if _BY_BASE[base] in card.id]
    larger = "720" in Path(network.file).name
    return next((card for card in alike if card.id.endswith("720p") == larger), alike[0])


def _check_complete(network: Network, config: Mapping[str, Any]) -> None:
    size, shapes = config["attention_head_dim"], network.weights.shapes
    expected = {
        f"blocks.{number}.{TUNED_PROJECTION}.{leaf}": shape
        for number in range(config["num_layers"])
        for leaf, shape in (("weight", (size, size)), ("bias", (size,)))
    }
    for name in sorted(expected.keys() - network.projections.keys()):
        raise WeightsError(f"{network.file} lacks {name}, which its other blocks have; fetch it again")
    for name, source in network.projections.items():
        if shapes[source.name] != expected.get(name):
            raise WeightsError(
                f"{network.file}: {source.name} of shape {shapes[source.name]} is no projection for heads of {size}"
            )
