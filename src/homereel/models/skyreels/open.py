"""Opens a folder as a SkyReels-V2 with diffusion forcing: checks that it is one, and finds its standard clip."""

from __future__ import annotations

from typing import Any

from homereel.core.errors import WeightsError
from homereel.core.model import Defaults
from homereel.core.protocols import ModelFacts
from homereel.models.card import ModelCard, read_folder_card
from homereel.models.catalogue import CATALOGUE
from homereel.models.shared_facts import able_to_compute
from homereel.models.skyreels.facts import OVERLAP_FRAMES, SkyreelsFacts
from homereel.models.wan.config import WanConfig, read_wan_config, scheduler_defaults
from homereel.weights.model_folder import ModelFolder

# Features of the smallest of the models with 14 billion parameters; the one with 1.3 has 1536.
_LARGE_FEATURES = 4096


def open_skyreels(*, name: str, folder: ModelFolder, card: ModelCard | None, compute: bool) -> ModelFacts:
    """See `OpenFamily`."""
    config, transformer = read_wan_config(folder), folder.config("transformer")
    _check_kind(config, transformer, folder=folder)
    base = card or _nearest(config)
    facts = SkyreelsFacts(
        model=name,
        folder=folder,
        card=read_folder_card(folder.path),
        config=config,
        base_defaults=base.defaults.settled() if card else _scheduler_defaults(folder, base.defaults.settled()),
        base_max_tokens=base.max_sequence_length or 512,
        understanding_models=tuple(entry.id for entry in CATALOGUE if entry.open_vocabulary and entry.supported),
        told_pace=bool(transformer.get("inject_sample_info", False)),
    )
    _check_window(facts)
    if not compute:
        return facts
    from homereel.models.skyreels.family import SkyreelsFamily

    return able_to_compute(facts, SkyreelsFamily)


def _check_kind(config: WanConfig, transformer: dict[str, Any], *, folder: ModelFolder) -> None:
    """Only the plain diffusion-forcing model: a time for each latent frame, all frames seeing each other."""
    block = transformer.get("num_frame_per_block", 1)
    if config.kind != "text" or config.sees_pictures or config.boundary is not None:
        raise WeightsError(
            f"{folder.path} is a SkyReels-V2 with inputs of its own for pictures; "
            "known are those with diffusion forcing, which have DF in their names"
        )
    if block != 1 or config.patch[0] != 1:
        raise WeightsError(
            f"{folder.path} sees {block} latent frames a block and cuts time in patches of {config.patch[0]}; "
            "only 1 and 1 are known, as SkyReels-V2-DF was released"
        )


def _check_window(facts: SkyreelsFacts) -> None:
    frames, scale = facts.window_frames, facts.config.frame_scale
    longest = scale * (facts.config.max_positions - 1) + 1
    if not OVERLAP_FRAMES + scale <= frames <= longest or frames % scale != 1 % scale:
        raise WeightsError(
            f"{facts.folder.path}: the standard clip of {frames} frames is also the window that a long one is made "
            f"of; it must have {scale}n + 1 frames, from {OVERLAP_FRAMES + scale} to {longest}"
        )


def _scheduler_defaults(folder: ModelFolder, defaults: Defaults) -> Defaults:
    """What the folder's scheduler names; a shift of 1 is what is written where none was chosen."""
    named = scheduler_defaults(folder, defaults)
    return Defaults(**{**named.__dict__, "shift": defaults.shift}) if named.shift == 1 else named


def _nearest(config: WanConfig) -> ModelCard:
    """The catalogue's model of this size; which of the two large ones it is, its files do not tell."""
    size = "14b" if config.features >= _LARGE_FEATURES else "1.3b"
    return next(card for card in CATALOGUE if card.id == f"skyreels-v2-df-{size}-540p")
