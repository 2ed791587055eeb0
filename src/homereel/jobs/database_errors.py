"""What a database's own errors mean to us: try later, or it is damaged. Anything else is a bug and stays as it is."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlalchemy import exc

from homereel.core.errors import JobsError, StoreDamaged, StoreUnavailable

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_UNAVAILABLE = {
    sqlite3.SQLITE_FULL: "the disk is full: nothing was changed; free some room",
    sqlite3.SQLITE_IOERR: "the disk cannot be read or written: it may be full or failing",
    sqlite3.SQLITE_READONLY: "it cannot be written; check the permissions of the file and its folder",
    sqlite3.SQLITE_PERM: "access is denied; check the permissions of the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check that its folder is there and may be written",
}
_POSTGRES_DAMAGED = ("XX001", "XX002")


def as_our_error(
    error: exc.DBAPIError | exc.TimeoutError | sqlite3.Error,
    *,
    name: str,
    file: Path | None,
    patience_seconds: float,
) -> JobsError | None:
    """The error to raise instead, or None if it can only be a bug of ours."""
    if isinstance(error, exc.TimeoutError):
        return StoreUnavailable(f"{name} is busy: no connection was free within {patience_seconds:g} s; try again")
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        return _sqlite_error(cause, file=file or Path(name), patience_seconds=patience_seconds)
    if getattr(cause, "sqlstate", None) in _POSTGRES_DAMAGED:
        return StoreDamaged(f"{name} is damaged ({_first_line(cause)}); restore it from a backup")
    if isinstance(error, exc.OperationalError | exc.InterfaceError):
        return StoreUnavailable(f"{name} cannot be used now: {_first_line(cause)}")
    return None


def is_locked(error: StoreUnavailable) -> bool:
    """Whether it came about because another program holds a lock, which it may let go of soon."""
    return _code(getattr(error.__cause__, "orig", None)) in _LOCKED


def damaged(file: Path, why: str) -> StoreDamaged:
    """Says what is wrong with the file, that nothing of it was touched, and what to do."""
    backup = newest_backup(file)
    rest = (
        f"then copy its backup {backup} there"
        if backup
        else "then a new one is made (it has no backup; films stay in their folders)"
    )
    return StoreDamaged(
        f"{file} {why}, and was left as it is; stop homereel, move {file.name}, {file.name}-wal and {file.name}-shm "
        f"away, {rest}"
    )


def newest_backup(file: Path) -> Path | None:
    """The latest whole copy of the file, or None."""
    backups = [path for path in file.parent.glob(f"{file.name}.b*") if not path.name.endswith(".part")]
    return max(backups, key=lambda path: path.stat().st_mtime, default=None)


def _sqlite_error(cause: sqlite3.Error, *, file: Path, patience_seconds: float) -> JobsError | None:
    code = _code(cause)
    if code in _DAMAGED:
        return damaged(file, f"is damaged ({_first_line(cause)})")
    if code in _LOCKED:
        return StoreUnavailable(
            f"{file} has been locked by another program for {patience_seconds:g} s; try again, or end that program"
        )
    if code in _UNAVAILABLE:
        return StoreUnavailable(f"{file}: {_UNAVAILABLE[code]}")
    return None


def _code(cause: object) -> int:
    return int(getattr(cause, "sqlite_errorcode", 0)) & 0xFF  # the rest only refines it


def _first_line(cause: BaseException | None) -> str:
    return (str(cause).strip().splitlines() or ["no reason given"])[0]
