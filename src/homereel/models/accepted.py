"""Which licences the user has accepted on this machine; asked once, remembered in HOMEREEL_HOME."""

from __future__ import annotations

import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from homereel.core.environment import read_environment
from homereel.core.errors import WeightsError
from homereel.models.card import Licence


def is_accepted(licence: Licence) -> bool:
    """Whether nothing has to be asked: the licence is open, or this very text was accepted before."""
    return not licence.restricts or licence.url in _accepted()


def accept(licence: Licence) -> None:
    """Remember that the user has accepted it. Raises WeightsError if HOMEREEL_HOME cannot be written."""
    path = _path()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    accepted = {**_accepted(), licence.url: {"name": licence.name, "accepted": now}}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".licences-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"schema": 1, "licences": accepted}, file, indent=1)
        Path(temporary).replace(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be written: {error.strerror or error}; set HOMEREEL_HOME") from None


def _accepted() -> dict[str, Any]:
    try:
        content: Any = json.loads(_path().read_text(encoding="utf-8"))
        return dict(content["licences"])
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _path() -> Path:
    return read_environment().home / "licences.json"
