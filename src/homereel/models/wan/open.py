"""Opens a folder as a Wan: reads which kind it is, and takes its standard clip from the catalogue's nearest model."""

from __future__ import annotations

from homereel.core.protocols import ModelFacts
from homereel.models.card import ModelCard, read_folder_card
from homereel.models.catalogue import CATALOGUE
from homereel.models.shared_facts import able_to_compute
from homereel.models.wan.config import WanConfig, read_wan_config, scheduler_defaults
from homereel.models.wan.facts import WanFacts
from homereel.weights.model_folder import ModelFolder


def open_wan(*, name: str, folder: ModelFolder, card: ModelCard | None, compute: bool) -> ModelFacts:
    """See `OpenFamily`."""
    config = read_wan_config(folder)
    base = card or _nearest(config)
    facts = WanFacts(
        model=name,
        folder=folder,
        card=read_folder_card(folder.path),
        config=config,
        base_defaults=base.defaults.settled() if card else scheduler_defaults(folder, base.defaults.settled()),
        base_max_tokens=base.max_sequence_length or 512,
        understanding_models=tuple(entry.id for entry in CATALOGUE if entry.open_vocabulary and entry.supported),
    )
    if not compute:
        return facts
    from homereel.models.wan.family import WanFamily

    return able_to_compute(facts, WanFamily)


def _nearest(config: WanConfig) -> ModelCard:
    """The catalogue's model whose standard clip suits a folder that the catalogue does not know."""
    if config.first_frame:
        wanted = "wan2.2-ti2v-5b"
    elif config.control:
        wanted = "wan2.1-vace-1.3b"
    elif config.boundary is not None:
        wanted = "wan2.2-i2v-a14b" if config.picture_channels else "wan2.2-t2v-a14b"
    elif config.picture_channels:
        wanted = "wan2.1-flf2v-14b" if config.sees_two else "wan2.1-i2v-14b-480p"
    else:
        wanted = "wan2.1-t2v-1.3b"
    return next(card for card in CATALOGUE if card.id == wanted)
