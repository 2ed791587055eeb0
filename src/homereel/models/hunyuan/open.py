"""Opens a folder as a HunyuanVideo-1.5, with the standard clip of the catalogue's model that is nearest to it."""

from __future__ import annotations

from homereel.core.protocols import ModelFacts
from homereel.models.card import ModelCard, read_folder_card
from homereel.models.catalogue.hunyuan import HUNYUAN, MAX_TOKENS
from homereel.models.hunyuan.config import HunyuanConfig, folder_defaults, read_hunyuan_config
from homereel.models.hunyuan.facts import HunyuanFacts
from homereel.models.shared_facts import able_to_compute
from homereel.weights.model_folder import ModelFolder


def open_hunyuan(*, name: str, folder: ModelFolder, card: ModelCard | None, compute: bool) -> ModelFacts:
    """See `OpenFamily`."""
    config = read_hunyuan_config(folder)
    base = card or _nearest(config)
    settled = base.defaults.settled()
    facts = HunyuanFacts(
        model=name,
        folder=folder,
        card=read_folder_card(folder.path),
        config=config,
        base_defaults=settled if card else folder_defaults(folder, settled),
        base_max_tokens=base.max_sequence_length or MAX_TOKENS,
    )
    if not compute:
        return facts
    from homereel.models.hunyuan.family import HunyuanFamily

    return able_to_compute(facts, HunyuanFamily)


def _nearest(config: HunyuanConfig) -> ModelCard:
    """The catalogue's model for a folder that it does not know; its guidance and shift are the folder's own."""
    if config.meanflow:
        wanted = "480p-i2v-step-distilled"
    else:
        wanted = f"{config.size}-{'i2v' if config.from_picture else 't2v'}"
    return next(card for card in HUNYUAN if card.id == f"hunyuanvideo-1.5-{wanted}")
