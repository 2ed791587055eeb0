"""Brings a database to this version of the tables: made anew, migrated after a backup, or refused."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from sqlalchemy import Connection, insert, inspect, select, update

from homereel.core.errors import StoreDamaged, StoreUnavailable
from homereel.jobs.backup import copy_database
from homereel.jobs.data import make_private
from homereel.jobs.database import Database
from homereel.jobs.database_errors import damaged, is_locked, newest_backup
from homereel.jobs.schema import metadata, schema_version

VERSION = 1
STEPS: Mapping[int, Callable[[Connection], None]] = {}  # from this version to the next
_CHECKED_BYTES = 64 * 2**20  # a larger file is not read through at each start


def prepare(database: Database) -> None:
    """Make the tables or bring them up to date. Raises StoreDamaged for a file that is damaged, foreign or of a newer
    version, and leaves it as it is.
    """
    if database.file is not None:
        _prepare_file(database)
    with database.reading() as connection:
        version = _version(connection, database)
    if version == VERSION:
        return
    with database.writing() as connection:
        version = _version(connection, database)  # another process may have been quicker
        if version is None:
            metadata.create_all(connection)
            connection.execute(insert(schema_version).values(version=VERSION))
            return
        if version < VERSION and database.file is not None:
            copy_database(database, database.file.with_name(f"{database.file.name}.before-version-{VERSION}"))
        for step in range(version, VERSION):
            STEPS[step](connection)
        connection.execute(update(schema_version).values(version=VERSION))


def _version(connection: Connection, database: Database) -> int | None:
    """None for a database without any of our tables."""
    names = set(inspect(connection).get_table_names())
    if schema_version.name not in names:
        if names & set(metadata.tables):
            raise _refused(database, "has tables of another program")
        return None
    version: int | None = connection.execute(select(schema_version.c.version)).scalar()
    if version is None or version < 1:
        raise _refused(database, "does not say its version")
    if version > VERSION:
        backup = newest_backup(database.file) if database.file else None
        instead = f", or go back to the backup {backup}" if backup else ""
        raise StoreDamaged(
            f"{database.name} was written by a newer homereel (version {version}, this one knows {VERSION}) and was "
            f"left as it is; update homereel{instead}"
        )
    return version


def _refused(database: Database, why: str) -> StoreDamaged:
    if database.file is not None:
        return damaged(database.file, why)
    return StoreDamaged(f"{database.name} {why}; give a database of its own, or restore it from a backup")


def _prepare_file(database: Database) -> None:
    """Make an empty file that only its owner can read, or look through the one that is there.

    It is never opened but by SQLite: closing it would let go of the locks of the whole process.
    """
    file = database.file
    assert file is not None
    make_private(file.parent)
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise StoreUnavailable(f"{file} cannot be made: {error.strerror or error}") from None
    _keep_a_log_ahead(database)
    with database.reading() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar() or 0
        page_bytes = connection.exec_driver_sql("PRAGMA page_size").scalar() or 0
        if pages * page_bytes > _CHECKED_BYTES:
            return
        found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if found != "ok":
        raise damaged(file, f"is damaged ({' '.join(str(found).split())})")


def _keep_a_log_ahead(database: Database) -> None:
    """Set the write-ahead log, which stays set. SQLite does not wait for a lock here, so we do."""
    until = time.monotonic() + database.patience_seconds
    while True:
        try:
            with database.outside() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            return
        except StoreUnavailable as error:
            if not is_locked(error) or time.monotonic() >= until:
                raise
            time.sleep(0.02)
