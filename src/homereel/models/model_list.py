"""What `homereel models` tells: every model of the catalogue, and those that were imported here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from homereel.core.model import Defaults
from homereel.core.protocols import ModelFacts
from homereel.models.card import TASKS_WITH, ClipCard, Licence, Task, read_folder_card
from homereel.models.catalogue import CATALOGUE
from homereel.models.registry import find_card, is_catalogued, model_facts, model_folder
from homereel.weights.imported import ImportedModel, imported_model, imported_models

# The kind of input that makes each task.
_TASK_OF: dict[str, Task] = {
    "image": "image-to-video",
    "last": "first-last-to-video",
    "keyframes": "keyframes-to-video",
    "strength": "video-to-video",
    "mask": "control-to-video",
}


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
    pickled: bool  # it can be run once its .pth was imported
    open_vocabulary: bool
    defaults: ClipCard
    words: dict[str, tuple[str, ...]]  # by kind, for a model with a small vocabulary
    examples: tuple[str, ...]


def list_models() -> tuple[ModelInfo, ...]:
    """Every model of the catalogue, then the imported ones."""
    names = [card.id for card in CATALOGUE] + [found.note.name for found in imported_models()]
    return tuple(model_info(name) for name in names)


def model_info(model: str) -> ModelInfo:
    """What there is to tell of one model of the catalogue, or an imported one. Raises UnknownModel."""
    imported = None if is_catalogued(model) else imported_model(model)
    return _catalogued(model) if imported is None else _imported(imported)


def _catalogued(model: str) -> ModelInfo:
    card = find_card(model)
    folder = model_folder(card.id)
    folder_card = read_folder_card(folder.path) if folder else None
    words = dict(folder_card.words) if folder_card else {}
    if folder and not words and not card.open_vocabulary:
        words = {"words": model_facts(card.id).vocabulary()}
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
        "pickled",
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


def _imported(found: ImportedModel) -> ModelInfo:
    card = read_folder_card(found.folder.path)
    facts = model_facts(found.note.name)
    return ModelInfo(
        id=found.note.name,
        aliases=(),
        family=found.note.family,
        tasks=_tasks(facts),
        sound=facts.makes_sound,
        repo="",
        gated=False,
        vram_bytes=None,
        supported=True,
        pickled=False,
        open_vocabulary=not facts.vocabulary(),
        title=card.title or f"imported from {', '.join(Path(source).name for source in found.note.sources)}",
        licence=card.licence or Licence(name="unknown", kind="unknown"),
        bytes=found.num_bytes,
        installed=True,
        defaults=_clip_card(facts.defaults),
        words=dict(card.words),
        examples=card.examples,
    )


def _tasks(facts: ModelFacts) -> tuple[Task, ...]:
    found: list[Task] = [] if facts.required else list(TASKS_WITH["text"])
    return (*found, *(task for kind, task in _TASK_OF.items() if kind in facts.inputs))


def _clip_card(defaults: Defaults) -> ClipCard:
    return ClipCard.model_validate({name: getattr(defaults, name) for name in ClipCard.model_fields})


def _amended(card: ClipCard, folder_card: ClipCard) -> ClipCard:
    return card.model_copy(update=folder_card.model_dump(exclude_none=True))


def _size_on_disk(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
