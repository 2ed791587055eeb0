"""A whole copy of an SQLite database while it is in use, by SQLite's own means."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from homereel.core.errors import StoreUnavailable
from homereel.jobs.database import Database


def copy_database(database: Database, target: Path) -> Path:
    """Copy it as it stands on the disk; the copy gets its name when it is whole. Raises StoreUnavailable."""
    part = target.with_name(target.name + ".part")
    with database.outside() as connection:
        try:
            part.unlink(missing_ok=True)
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            source = connection.connection.driver_connection
            assert isinstance(source, sqlite3.Connection)
            with closing(sqlite3.connect(part)) as copy:
                source.backup(copy)
            part.replace(target)
        except OSError as error:
            raise StoreUnavailable(f"{target} cannot be written: {error.strerror or error}") from None
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
    return target
