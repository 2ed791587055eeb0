"""Where jobs are kept: one folder, readable by its owner alone, with the database and a folder for each job in it."""

from __future__ import annotations

from pathlib import Path

from homereel.core.environment import read_environment
from homereel.core.errors import StoreUnavailable

DATABASE = "jobs.sqlite3"
DATABASE_URL = "database.url"
JOB_FOLDERS = "jobs"


def data_folder(given: Path | None = None) -> Path:
    """The folder that was given, else `jobs` in HOMEREEL_HOME; it need not be there yet. Absolute, since workers may
    be started elsewhere.
    """
    return (given.expanduser() if given is not None else read_environment().home / "jobs").absolute()


def has_store(data: Path) -> bool:
    """Whether jobs were ever kept there."""
    return (data / DATABASE).exists() or (data / DATABASE_URL).exists()


def make_private(folder: Path) -> None:
    """Make a folder that only its owner can read, with those above it. Raises StoreUnavailable."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(
            f"{folder} cannot be made: {error.strerror or error}; give another --data, or set HOMEREEL_HOME"
        ) from None


def read_url(data: Path) -> str | None:
    """The URL that is written in DATA/database.url, or None. Raises StoreUnavailable if that file cannot be read."""
    path = data / DATABASE_URL
    try:
        lines = path.read_text(encoding="utf-8").split()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise StoreUnavailable(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(lines) != 1:
        raise StoreUnavailable(f"{path} must hold one URL, such as postgresql://user@host/homereel, and nothing else")
    return lines[0]
