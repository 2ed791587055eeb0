"""Which model on this machine was distilled from another one, to need few steps and no guidance."""

from __future__ import annotations

from homereel.core.errors import HomereelError
from homereel.core.student_times import STUDENT_SAMPLERS
from homereel.models.card import read_folder_card
from homereel.models.registry import default_model, find_card, is_catalogued, model_folder
from homereel.weights.imported import imported_models
from homereel.weights.model_folder import ModelFolder


def student_of(model: str | None) -> str | None:
    """The student of this model (None: of the best one installed), by its id or folder; None if none is here.

    It is the one that the model's own card names, else the catalogue's, else an import with this base that has the
    times of a student. Raises UnknownModel if there is no such model.
    """
    name = model or default_model()
    folder = model_folder(name)
    named = None if folder is None else _named_by(folder)
    if named is None and is_catalogued(name):
        named = find_card(name).student or None
    if named is not None:
        return named if _is_here(named) else None
    known = {name, find_card(name).id} if is_catalogued(name) else {name}
    for found in imported_models():
        if found.note.base in known and read_folder_card(found.folder.path).defaults.sampler in STUDENT_SAMPLERS:
            return found.note.name
    return None


def _named_by(folder: ModelFolder) -> str | None:
    """Whom a model's own card names: a folder beside or within it, or a model's id."""
    name = read_folder_card(folder.path).student
    beside = folder.path / name
    return str(beside) if name and beside.is_dir() else name or None


def _is_here(name: str) -> bool:
    try:
        return model_folder(name) is not None
    except HomereelError:  # the card names one that nobody knows
        return False
