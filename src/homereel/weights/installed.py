"""Which models of the hub are here whole: a marker a model in HOMEREEL_HOME, and a look at the files it names."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homereel.core.environment import read_environment
from homereel.core.errors import WeightsError
from homereel.weights.model_folder import ModelFolder


@dataclass(frozen=True)
class Installed:
    """A model that was fetched whole: where it lies, at which commit, and the size of each of its files."""

    repo: str
    revision: str
    snapshot: Path
    files: Mapping[str, int]

    @property
    def num_bytes(self) -> int:
        return sum(self.files.values())

    def is_whole(self) -> bool:
        """Whether every file is still there in its full size."""
        try:
            return all((self.snapshot / name).stat().st_size == size for name, size in self.files.items())
        except OSError:
            return False


def installed_model(model: str, *, repo: str) -> Installed | None:
    """The model of this id if it is here whole, and came from this repository."""
    marked = read_marker(model)
    return marked if marked is not None and marked.repo == repo and marked.is_whole() else None


def installed_folder(model: str, *, repo: str) -> ModelFolder | None:
    """Where it lies, ready to be opened."""
    found = installed_model(model, repo=repo)
    return ModelFolder(found.snapshot) if found else None


def read_marker(model: str) -> Installed | None:
    """What was noted when the model was fetched; None if nothing, or nothing that makes sense."""
    try:
        content: Any = json.loads(_marker(model).read_text(encoding="utf-8"))
        return Installed(
            repo=str(content["repo"]),
            revision=str(content["revision"]),
            snapshot=Path(content["snapshot"]),
            files={str(name): int(size) for name, size in content["files"].items()},
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def write_marker(model: str, installed: Installed) -> None:
    """Note that a model is here. Raises WeightsError if HOMEREEL_HOME cannot be written."""
    path = _marker(model)
    content = {
        "schema": 1,
        "repo": installed.repo,
        "revision": installed.revision,
        "snapshot": str(installed.snapshot),
        "files": dict(installed.files),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".marker-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
        Path(temporary).replace(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be written: {error.strerror or error}; set HOMEREEL_HOME") from None


def remove_marker(model: str) -> None:
    """Forget the model."""
    _marker(model).unlink(missing_ok=True)


def _marker(model: str) -> Path:
    return read_environment().home / "models" / f"{model}.json"
