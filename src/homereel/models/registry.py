"""From a name to a model: an id of the catalogue, or a folder in diffusers layout. One line a family."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from homereel.core.errors import InvalidRequest, UnknownModel, WeightsError
from homereel.core.gpu import has_cuda_gpu
from homereel.core.protocols import Family, ModelFacts
from homereel.models.card import ClipCard, Licence, ModelCard, read_folder_card
from homereel.models.catalogue import CATALOGUE
from homereel.weights.installed import installed_folder
from homereel.weights.model_folder import ModelFolder, packaged_folder


@dataclass(frozen=True)
class ModelInfo:
    """What `homereel models` tells of one model."""

    id: str
    aliases: tuple[str, ...]
    family: str
    title: str
    tasks: tuple[str, ...]
    sound: bool
    licence: Licence
    repo: str
    gated: bool
    bytes: int | None  # on this disk, or else about as many as a download brings; None is not known
    vram_bytes: int | None
    installed: bool
    supported: bool
    open_vocabulary: bool
    defaults: ClipCard
    words: dict[str, tuple[str, ...]]  # by kind, for a model with a small vocabulary
    examples: tuple[str, ...]


def model_facts(model: str | None = None) -> ModelFacts:
    """The model of this name, from its configuration only (None: the best one installed).

    Raises UnknownModel with the nearest names, or WeightsError if the model is not here or damaged.
    """
    return _open(model, compute=False)


def model_family(model: str | None = None) -> Family:
    """The model of this name, able to compute; no weights are loaded yet. Raises as `model_facts` does."""
    return cast("Family", _open(model, compute=True))


def default_model() -> str:
    """The id of the best model that is installed and can run here; without a CUDA GPU the built-in one."""
    if not has_cuda_gpu():
        return "pocket"
    installed = [card for card in CATALOGUE if card.supported and _installed(card) is not None]
    return max(installed, key=lambda card: card.rank).id if installed else "pocket"


def list_models() -> tuple[ModelInfo, ...]:
    """Every model of the catalogue."""
    return tuple(model_info(card.id) for card in CATALOGUE)


def model_info(model: str) -> ModelInfo:
    """What there is to tell of one model of the catalogue. Raises UnknownModel."""
    card = find_card(model)
    folder = _installed(card)
    folder_card = read_folder_card(folder.path) if folder else None
    words = dict(folder_card.words) if folder_card else {}
    if folder and not words and not card.open_vocabulary:
        words = {"words": _open(model, compute=False).vocabulary()}
    shared = (
        "id",
        "aliases",
        "family",
        "tasks",
        "sound",
        "repo",
        "gated",
        "vram_bytes",
        "supported",
        "open_vocabulary",
    )
    return ModelInfo(
        **{name: getattr(card, name) for name in shared},
        title=(folder_card.title if folder_card else "") or card.title,
        licence=(folder_card.licence if folder_card else None) or card.licence,
        bytes=_size_on_disk(folder.path) if folder else card.download_bytes,
        installed=folder is not None,
        defaults=_amended(card.defaults, folder_card.defaults) if folder_card else card.defaults,
        words=words,
        examples=folder_card.examples if folder_card else (),
    )


def model_licence(model: str) -> Licence | None:
    """The licence of a model by its id or folder, if it is known."""
    if _is_known(model):
        return find_card(model).licence
    path = _existing_folder(model)
    return read_folder_card(path).licence if path else None


def find_card(model: str) -> ModelCard:
    """The catalogue's entry of this id or alias. Raises UnknownModel with the nearest names."""
    for card in CATALOGUE:
        if model == card.id or model in card.aliases:
            return card
    raise _unknown(model)


def runnable_models() -> tuple[str, ...]:
    """Ids of the models that can be run, for messages."""
    return tuple(card.id for card in CATALOGUE if card.supported)


def models_for_input(kind: str) -> tuple[str, ...]:
    """Ids of the models that take such an input, for messages that say who would."""
    task = f"{kind}-to-video"
    return tuple(card.id for card in CATALOGUE if card.supported and task in card.tasks)


def _open(model: str | None, *, compute: bool) -> ModelFacts:
    name = model or default_model()
    if _is_known(name):
        card = find_card(name)
        if not card.supported:
            raise InvalidRequest(
                f"{card.id} cannot be run by this version of homereel yet; runnable are {', '.join(runnable_models())}",
                field="model",
            )
        folder = _installed(card)
        if folder is None:
            raise WeightsError(_not_installed(card))
        return _FAMILIES[card.family](name=card.id, folder=folder, card=card, compute=compute)
    path = _existing_folder(name)
    if path is not None:
        return _open_folder(name, ModelFolder(path), compute=compute)
    if os.sep in name or "/" in name or name.startswith((".", "~")):
        raise UnknownModel(f"{name} is no folder; give a model's id or a folder in diffusers layout", field="model")
    raise _unknown(name)


def _existing_folder(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        return path if path.is_dir() else None
    except (OSError, RuntimeError, ValueError):  # too long, no such user, characters that no path has
        return None


def _open_folder(name: str, folder: ModelFolder, *, compute: bool) -> ModelFacts:
    pipeline = str(folder.index().get("_class_name", ""))
    family = _PIPELINES.get(pipeline)
    if family is None:
        known = ", ".join(sorted(_PIPELINES))
        raise WeightsError(f"{folder.path} is a {pipeline or 'model without a name'}; supported are {known}")
    return _FAMILIES[family](name=name, folder=folder, card=None, compute=compute)


def _wan(*, name: str, folder: ModelFolder, card: ModelCard | None, compute: bool) -> ModelFacts:
    from homereel.models.wan_config import WanFacts, read_wan_config, scheduler_defaults

    config = read_wan_config(folder)
    base = card or find_card("wan2.2-ti2v-5b" if config.first_frame else "wan2.1-t2v-1.3b")
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
    from homereel.models.wan import wan_family

    return wan_family(facts)


# One line a family: its name, and what makes one of its models from a folder.
_FAMILIES: dict[str, Callable[..., ModelFacts]] = {"wan": _wan}
# Which family understands the pipeline that a folder's model_index.json names.
_PIPELINES = {"WanPipeline": "wan", "WanImageToVideoPipeline": "wan"}


def _is_known(name: str) -> bool:
    return any(name == card.id or name in card.aliases for card in CATALOGUE)


def _unknown(name: str) -> UnknownModel:
    names = [name for card in CATALOGUE for name in (card.id, *card.aliases)]
    nearest = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(nearest)}?" if nearest else f"known are {', '.join(runnable_models())} ..."
    shown = name if len(name) <= 60 else name[:57] + "..."
    return UnknownModel(f"there is no model {shown!r}; {hint}", field="model")


def _installed(card: ModelCard) -> ModelFolder | None:
    """Where the model lies on this machine, or None."""
    return installed_folder(card.id, repo=card.repo) if card.repo else packaged_folder(card.id)


def _not_installed(card: ModelCard) -> str:
    if not card.repo:
        return f"{card.id} is missing from this installation; install homereel again"
    size = f"{card.download_bytes / 1e9:.1f} GB, " if card.download_bytes else ""
    return (
        f"{card.id} is not on this machine ({size}{card.licence.name}, {card.repo}); "
        f"`homereel models pull {card.id}` fetches it, or give the folder of a copy in diffusers layout, or use pocket"
    )


def _amended(card: ClipCard, folder_card: ClipCard) -> ClipCard:
    return card.model_copy(update=folder_card.model_dump(exclude_none=True))


def _size_on_disk(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
