"""Transactions on SQLite and PostgreSQL that mean the same: many readers, and one writer at a time.

A single writer is what makes every rule of the store easy to be sure of: what a transaction reads cannot change before
it writes, and events are numbered in the order in which they became true. On SQLite that is BEGIN IMMEDIATE, on
PostgreSQL an advisory lock that ends with the transaction, also when the process or its machine is gone.
"""

from __future__ import annotations

import math
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, make_url

from homereel.core.errors import JobsError, StoreUnavailable
from homereel.jobs.database_errors import as_our_error

_WRITER_LOCK = 0x686F6D65  # any number that no other program takes in the same database
_NUM_CONNECTIONS = 4
_OLDEST_SQLITE = (3, 35)  # the first with RETURNING
_HOW = "homereel_transaction"  # an execution option: "durable", "lazy", "outside" or (to read) absent


class Database:
    """Connections to one database, for use by several threads."""

    def __init__(self, url: str, *, patience_seconds: float) -> None:
        self.url = _parse(url)
        self.patience_seconds = patience_seconds
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.file = Path(self.url.database or "") if self.is_sqlite else None
        self.engine = self._connect()
        self._turn = threading.Lock()  # SQLite's own waiting is by sleeping, and not fair

    @property
    def name(self) -> str:
        """What to call it in a message: the file, or the URL without its password."""
        return str(self.file) if self.file else self.url.render_as_string(hide_password=True)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that changes nothing."""
        with self._our_errors(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self, *, lazy: bool = False) -> Iterator[Connection]:
        """A transaction that nobody else writes beside; on the disk when the context ends, or (if lazy) soon."""
        with self._our_errors(), self._own_turn(), self.engine.connect() as plain:
            connection = plain.execution_options(**{_HOW: "lazy" if lazy else "durable"})
            with connection.begin():
                yield connection

    @contextmanager
    def outside(self) -> Iterator[Connection]:
        """A connection without a transaction, for SQLite's own commands."""
        with self._our_errors(), self.engine.connect() as connection:
            yield connection.execution_options(**{_HOW: "outside"})

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()

    @contextmanager
    def _own_turn(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=self.patience_seconds):
            raise StoreUnavailable(f"{self.name} is busy: no turn to write within {self.patience_seconds:g} s")
        try:
            yield
        finally:
            self._turn.release()

    @contextmanager
    def _our_errors(self) -> Iterator[None]:
        try:
            yield
        except (exc.DBAPIError, exc.TimeoutError, sqlite3.Error) as error:
            ours = as_our_error(error, name=self.name, file=self.file, patience_seconds=self.patience_seconds)
            if ours is None:
                raise
            raise ours from error

    def _connect(self) -> Engine:
        given: dict[str, Any] = {"pool_size": _NUM_CONNECTIONS, "pool_timeout": self.patience_seconds}
        if self.is_sqlite:
            _check_sqlite()
            engine = create_engine(self.url, connect_args={"timeout": self.patience_seconds}, **given)
            event.listen(engine, "connect", _set_up_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            return engine
        arguments = {"connect_timeout": max(2, math.ceil(self.patience_seconds))}
        try:
            engine = create_engine(self.url, pool_pre_ping=True, connect_args=arguments, **given)
        except ModuleNotFoundError as error:
            raise JobsError(
                f"{self.name} needs {error.name}, which is not installed: pip install 'homereel[postgres]'"
            ) from None
        event.listen(engine, "connect", lambda raw, _: _set_up_postgres(raw, patience_seconds=self.patience_seconds))
        event.listen(engine, "begin", _begin_postgres)
        return engine


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
        kind = parsed.get_backend_name()
    except (exc.ArgumentError, ValueError):
        kind = ""
    if kind == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed
    if kind in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    raise JobsError(
        "the database must be given as sqlite:////a/file.sqlite3 or postgresql://user@host/name; the URL is neither"
    )


def _check_sqlite() -> None:
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        oldest = ".".join(map(str, _OLDEST_SQLITE))
        raise JobsError(f"this Python has SQLite {sqlite3.sqlite_version}; jobs need {oldest}: take a newer Python")


def _set_up_sqlite(raw: Any, _: Any) -> None:
    raw.isolation_level = None  # transactions begin where we say, not where the driver guesses
    raw.execute("PRAGMA foreign_keys=ON")
    raw.execute("PRAGMA trusted_schema=OFF")


def _begin_sqlite(connection: Connection) -> None:
    how = connection.get_execution_options().get(_HOW)
    if how == "outside":
        return
    if how is None:
        connection.exec_driver_sql("BEGIN")
        return
    # In a write-ahead log, NORMAL leaves the database whole in a cut of power, but may lose what was written last.
    connection.exec_driver_sql(f"PRAGMA synchronous={'NORMAL' if how == 'lazy' else 'FULL'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _set_up_postgres(raw: Any, *, patience_seconds: float) -> None:
    milliseconds = max(1, round(patience_seconds * 1000))
    with raw.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = {milliseconds}")
        # A process that was frozen within a transaction must not keep all others waiting.
        cursor.execute(f"SET idle_in_transaction_session_timeout = {milliseconds}")
    raw.commit()


def _begin_postgres(connection: Connection) -> None:
    how = connection.get_execution_options().get(_HOW)
    if how is None:
        return
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})")
    if how == "lazy":
        connection.exec_driver_sql("SET LOCAL synchronous_commit TO OFF")
