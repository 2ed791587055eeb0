"""Opens a folder as an LTX-2: reads its kind, and takes its standard clip from the catalogue's nearest model."""

from __future__ import annotations

from homereel.core.errors import WeightsError
from homereel.core.protocols import ModelFacts
from homereel.models.card import ModelCard, read_folder_card
from homereel.models.catalogue import CATALOGUE
from homereel.models.ltx.config import LtxConfig, read_ltx_config
from homereel.models.ltx.facts import LtxFacts
from homereel.models.shared_facts import able_to_compute
from homereel.weights.model_folder import ModelFolder


def open_ltx(*, name: str, folder: ModelFolder, card: ModelCard | None, compute: bool) -> ModelFacts:
    """See `OpenFamily`."""
    config = read_ltx_config(folder)
    base = card or _nearest(config)
    facts = LtxFacts(
        model=name,
        folder=folder,
        card=read_folder_card(folder.path),
        config=config,
        base_defaults=base.defaults.settled(),
        base_max_tokens=base.max_sequence_length or 1024,
    )
    if facts.max_tokens % config.registers:
        raise WeightsError(
            f"{folder.path}: its texts have {facts.max_tokens} tokens, not a multiple of {config.registers}"
        )
    if not compute:
        return facts
    from homereel.models.ltx.family import LtxFamily

    return able_to_compute(facts, LtxFamily)


def _nearest(config: LtxConfig) -> ModelCard:
    """The catalogue's model whose standard clip suits a folder that the catalogue does not know."""
    if config.distilled:
        wanted = "ltx-2-19b-distilled" if config.generation == "2.0" else "ltx-2.5"
    else:
        wanted = "ltx-2-19b" if config.generation == "2.0" else "ltx-2.3"
    return next(card for card in CATALOGUE if card.id == wanted)
