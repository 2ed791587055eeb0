"""Group commit: what several threads want to write at the same time becomes one transaction, and one wait for the disk.

Whoever comes to an idle database writes at once. Those who come meanwhile are written together by the first of them.
Each returns when its own part is on the disk, never before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection

from homereel.core.errors import HomereelError, StoreUnavailable
from homereel.jobs.database import Database

_Told = TypeVar("_Told")


class JoinedWrites:
    """For work that raises, if it does, before it has written anything: then the others are not concerned."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[_Part] = []
        self._is_writing = False
        self._changed = threading.Condition()

    def write(self, work: Callable[[Connection], _Told]) -> _Told:
        """Do `work` within a transaction, perhaps with others in it; returns, or raises, what it did."""
        mine = _Part(work)
        with self._changed:
            self._waiting.append(mine)
            self._changed.wait_for(lambda: mine.is_over or not self._is_writing)
            must_write = not mine.is_over
            if must_write:
                self._is_writing = True
        if must_write:
            try:
                self._write_all()
            finally:
                with self._changed:
                    self._is_writing = False
                    self._changed.notify_all()
        told: _Told = mine.outcome()
        return told

    def _write_all(self) -> None:
        """Whoever has come by the time the transaction begins is in it, or hears why there is none."""
        parts: list[_Part] = []
        try:
            with self._database.writing() as connection:
                parts = self._take()
                for part in parts:
                    part.do(connection)
        except Exception as error:  # noqa: BLE001  raised by each of them, not here
            for part in parts or self._take():
                part.end(error)
        except BaseException:  # Ctrl-C, which is for this thread alone
            for part in parts or self._take():
                part.end(StoreUnavailable(f"{self._database.name}: the program is being ended, nothing was written"))
            raise
        else:
            for part in parts:
                part.end()

    def _take(self) -> list[_Part]:
        with self._changed:
            parts, self._waiting = self._waiting, []
        return parts


class _Part:
    """What one thread wants written."""

    def __init__(self, work: Callable[[Connection], Any]) -> None:
        self._work = work
        self._told: Any = None
        self._error: Exception | None = None
        self.is_over = False

    def do(self, connection: Connection) -> None:
        """Errors of the database end the transaction for all; what is wrong with this work is its own."""
        try:
            self._told = self._work(connection)
        except (HomereelError, TypeError, ValueError) as error:
            self._error = error

    def end(self, error: Exception | None = None) -> None:
        """The transaction is on the disk, or it is not there at all."""
        self._error = self._error or error
        self.is_over = True

    def outcome(self) -> Any:
        """What the work returned; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._told
