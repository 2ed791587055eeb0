"""From a name to a model: an id of the catalogue, or a folder in diffusers layout."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import cast

from homereel.core.errors import InvalidRequest, UnknownModel, WeightsError
from homereel.core.gpu import has_cuda_gpu
from homereel.core.protocols import Family, ModelFacts
from homereel.models.card import TASKS_WITH, Licence, ModelCard, read_folder_card
from homereel.models.catalogue import CATALOGUE
from homereel.models.families import FAMILIES, family_of_pipeline, known_pipelines
from homereel.weights.imported import imported_folder, imported_models
from homereel.weights.installed import installed_folder
from homereel.weights.model_folder import ModelFolder, packaged_folder

SINGLE_FILES = (".safetensors", ".gguf", ".pth", ".pt", ".ckpt", ".bin")


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
    able = [card for card in CATALOGUE if card.supported and "text-to-video" in card.tasks]
    installed = [card for card in able if _installed(card) is not None]
    return max(installed, key=lambda card: card.rank).id if installed else "pocket"


def model_licence(model: str) -> Licence | None:
    """The licence of a model by its id or folder, if it is known."""
    if is_catalogued(model):
        return find_card(model).licence
    imported = imported_folder(model)
    path = imported.path if imported else _existing_folder(model)
    return read_folder_card(path).licence if path else None


def is_catalogued(name: str) -> bool:
    """Whether the catalogue has an entry of this id or alias."""
    return any(name == card.id or name in card.aliases for card in CATALOGUE)


def find_card(model: str) -> ModelCard:
    """The catalogue's entry of this id or alias. Raises UnknownModel with the nearest names."""
    for card in CATALOGUE:
        if model == card.id or model in card.aliases:
            return card
    raise _unknown(model)


def model_folder(model: str) -> ModelFolder | None:
    """Where a model lies that is here: of the catalogue, imported, or a folder; None if it is not here.

    Raises UnknownModel for a name that is none of these.
    """
    if is_catalogued(model):
        return _installed(find_card(model))
    imported = imported_folder(model)
    if imported is not None:
        return imported
    path = _existing_folder(model)
    if path is None:
        raise _unknown(model)
    return ModelFolder(path)


def runnable_models() -> tuple[str, ...]:
    """Ids of the models that can be run, for messages."""
    return tuple(card.id for card in CATALOGUE if card.supported)


def models_for_input(kind: str) -> tuple[str, ...]:
    """Ids of the models that take such an input, for messages that say who would; those that are here come first."""
    tasks = TASKS_WITH.get(kind, ())
    able = [card for card in CATALOGUE if card.supported and set(card.tasks).intersection(tasks)]
    return tuple(card.id for card in sorted(able, key=lambda card: _installed(card) is None))


def _open(model: str | None, *, compute: bool) -> ModelFacts:
    name = model or default_model()
    if is_catalogued(name):
        card = find_card(name)
        if card.pickled:
            raise InvalidRequest(
                f"{card.id} is published as a pickled .pth: take it from https://huggingface.co/{card.repo}, then "
                "`homereel models import FILE` makes a model of it, which --model names",
                field="model",
            )
        if not card.supported:
            raise InvalidRequest(
                f"{card.id} cannot be run by this version of homereel yet; `homereel models` lists those that can",
                field="model",
            )
        folder = _installed(card)
        if folder is None:
            raise WeightsError(_not_installed(card))
        return FAMILIES[card.family].open(name=card.id, folder=folder, card=card, compute=compute)
    imported = imported_folder(name)
    if imported is not None:
        return _open_folder(name, imported, compute=compute)
    path = _existing_folder(name)
    if path is not None:
        return _open_folder(name, ModelFolder(path), compute=compute)
    if Path(name).suffix.lower() in SINGLE_FILES:
        raise UnknownModel(
            f"{name} is a single file; `homereel models import {name}` makes a model of it, which --model then names",
            field="model",
        )
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
    family = family_of_pipeline(pipeline)
    if family is None:
        known = ", ".join(known_pipelines())
        raise WeightsError(f"{folder.path} is a {pipeline or 'model without a name'}; supported are {known}")
    return FAMILIES[family].open(name=name, folder=folder, card=None, compute=compute)


def _unknown(name: str) -> UnknownModel:
    names = [name for card in CATALOGUE for name in (card.id, *card.aliases)]
    names += [found.note.name for found in imported_models()]
    nearest = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(nearest)}?" if nearest else f"known are {', '.join(runnable_models()[:6])} …"
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
