"""Models made here from single files: a folder each in HOMEREEL_HOME/imported, written whole or not at all."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from homereel.core.environment import read_environment
from homereel.core.errors import InvalidRequest, WeightsError
from homereel.weights.model_folder import ModelFolder

NOTE = "import.json"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")
_UNFINISHED = ".importing-"
_PATIENCE_SECONDS = 1


@dataclass(frozen=True)
class ImportNote:
    """What was noted of an import: the model's family, the files it was made from, where the rest came from."""

    name: str
    family: str
    sources: tuple[str, ...]
    base: str
    dtype: str
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class ImportedModel:
    """An imported model that is here."""

    note: ImportNote
    folder: ModelFolder

    @property
    def num_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.folder.path.rglob("*") if file.is_file())


def imported_models() -> tuple[ImportedModel, ...]:
    """All of them, by name."""
    root = import_root()
    names = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
    found = (imported_model(name) for name in names)
    return tuple(model for model in found if model is not None)


def imported_model(name: str) -> ImportedModel | None:
    """The imported model of this name, or None."""
    if not _NAME.fullmatch(name):
        return None
    path = import_root() / name
    try:
        content: Any = json.loads((path / NOTE).read_text(encoding="utf-8"))
        note = ImportNote(
            name=name,
            family=str(content["family"]),
            sources=tuple(str(source) for source in content["sources"]),
            base=str(content["base"]),
            dtype=str(content["dtype"]),
            remarks=tuple(str(remark) for remark in content["remarks"]),
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return ImportedModel(note, ModelFolder(path))


def imported_folder(name: str) -> ModelFolder | None:
    """Where it lies, ready to be opened."""
    found = imported_model(name)
    return found.folder if found else None


def remove_imported(name: str) -> int:
    """Take it away; returns the bytes that are free again. Raises InvalidRequest if there is none of this name."""
    found = imported_model(name)
    if found is None:
        raise InvalidRequest(f"no imported model is called {name!r}", field="model")
    files = [file.lstat() for file in found.folder.path.rglob("*") if file.is_file()]
    freed = sum(state.st_size for state in files if state.st_nlink == 1)  # the others are the base's as well
    doomed = import_root() / f"{_UNFINISHED}{name}-removed"
    try:
        shutil.rmtree(doomed, ignore_errors=True)
        found.folder.path.rename(doomed)
        shutil.rmtree(doomed)
    except OSError as error:
        raise WeightsError(f"{found.folder.path} cannot be removed: {error.strerror or error}") from None
    return freed


def check_new_name(name: str) -> None:
    """Raises InvalidRequest if a model cannot be imported under this name."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name!r} is no name for a model; take small letters, digits, '.', '-' and '_', 80 at most", field="name"
        )
    if (import_root() / name).exists():
        raise InvalidRequest(f"{name} was imported before; give another --name, or remove it first", field="name")


def import_root() -> Path:
    """The folder that imported models lie in; it need not be there yet."""
    return read_environment().home / "imported"


@contextmanager
def new_import(note: ImportNote) -> Iterator[Path]:
    """An empty folder that becomes the model when the context ends well, and is gone when it does not.

    Raises WeightsError if HOMEREEL_HOME cannot be written, or if another import is under way.
    """
    from huggingface_hub.utils import WeakFileLock

    root = import_root()
    with ExitStack() as held:
        try:
            root.mkdir(parents=True, exist_ok=True)
            held.enter_context(WeakFileLock(root / ".lock", timeout=_PATIENCE_SECONDS))
            for left in root.glob(f"{_UNFINISHED}*"):  # of a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(dir=root, prefix=_UNFINISHED))
        except TimeoutError:
            raise WeightsError("another import is under way; wait until it is done") from None
        except OSError as error:
            raise WeightsError(f"{root} cannot be written: {error.strerror or error}; set HOMEREEL_HOME") from None
        held.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            yield folder
            content = {"schema": 1, **asdict(note)}
            (folder / NOTE).write_text(json.dumps(content, indent=1), encoding="utf-8")
            folder.chmod(0o755)
            folder.rename(root / note.name)
        except OSError as error:
            raise WeightsError(f"{root / note.name} cannot be written: {error.strerror or error}") from None
