"""What the studio keeps beside the jobs: tags, picks, boards of drafts, the trash, a few settings.

A small SQLite file in the data folder, written through to the disk with every change. It holds no clip and no recipe:
whoever loses it loses an order of things, and nothing that was made.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from homereel.core.errors import InvalidRequest, StoreUnavailable
from homereel.jobs.data import make_private

FILE = "studio.sqlite3"
MAX_TAGS, MAX_TAG_CHARACTERS = 30, 40
Pick: TypeAlias = Literal["picked", "discarded"]
_VERSION = 1
_PATIENCE_SECONDS = 10.0
_TABLES = """
CREATE TABLE IF NOT EXISTS tags (job TEXT NOT NULL, tag TEXT NOT NULL, PRIMARY KEY (job, tag)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS picks (job TEXT PRIMARY KEY, pick TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS trash (job TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS boards (id TEXT PRIMARY KEY, kind TEXT NOT NULL, title TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS board_jobs (board TEXT NOT NULL, place INTEGER NOT NULL, job TEXT NOT NULL,
    PRIMARY KEY (board, place)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Board:
    """Clips that were asked for together, in their order: drafts, or the shots of a film."""

    id: str
    kind: str
    title: str
    at: float
    jobs: tuple[str, ...]


class Shelf:
    """Its methods block for a moment, and may be called from several threads and by several servers of one folder."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._lock = threading.Lock()
        self._is_ready = False

    def tags(self) -> dict[str, tuple[str, ...]]:
        """All tags, by job."""
        found: dict[str, tuple[str, ...]] = {}
        for job, tag in self._rows("SELECT job, tag FROM tags ORDER BY tag"):
            found[str(job)] = (*found.get(str(job), ()), str(tag))
        return found

    def set_tags(self, job: str, text: str) -> tuple[str, ...]:
        """Replace a job's tags by those of a text with commas between. Raises InvalidRequest for too many of them."""
        tags = sorted({" ".join(tag.split()).lower() for tag in text.split(",") if tag.strip()})
        if len(tags) > MAX_TAGS or any(len(tag) > MAX_TAG_CHARACTERS for tag in tags):
            raise InvalidRequest(
                f"tags: at most {MAX_TAGS} of {MAX_TAG_CHARACTERS} characters each, with commas between", field="tags"
            )
        with self._writing() as connection:
            connection.execute("DELETE FROM tags WHERE job = ?", (job,))
            connection.executemany("INSERT INTO tags VALUES (?, ?)", [(job, tag) for tag in tags])
        return tuple(tags)

    def picks(self) -> dict[str, str]:
        """What was picked or discarded, by job."""
        return {str(job): str(pick) for job, pick in self._rows("SELECT job, pick FROM picks")}

    def set_pick(self, job: str, pick: Pick | None) -> None:
        """Pick a draft, discard it, or take either back."""
        with self._writing() as connection:
            connection.execute("DELETE FROM picks WHERE job = ?", (job,))
            if pick is not None:
                connection.execute("INSERT INTO picks VALUES (?, ?)", (job, pick))

    def trash(self) -> frozenset[str]:
        """The jobs that lie in the trash."""
        return frozenset(str(job) for (job,) in self._rows("SELECT job FROM trash"))

    def set_trashed(self, job: str, *, trashed: bool) -> None:
        """Put a clip into the trash, where its files stay, or take it out."""
        with self._writing() as connection:
            connection.execute("DELETE FROM trash WHERE job = ?", (job,))
            if trashed:
                connection.execute("INSERT INTO trash VALUES (?, ?)", (job, time.time()))

    def forget(self, job: str) -> None:
        """Drop all that is known of a job that is gone; a film keeps its place, to say that a shot is missing."""
        with self._writing() as connection:
            for table in ("tags", "picks", "trash"):
                connection.execute(f"DELETE FROM {table} WHERE job = ?", (job,))
            films = "SELECT id FROM boards WHERE kind = 'film'"
            connection.execute(f"DELETE FROM board_jobs WHERE job = ? AND board NOT IN ({films})", (job,))

    def add_board(self, board: str, *, kind: str, title: str, jobs: Sequence[str]) -> None:
        """Keep which clips were asked for together."""
        with self._writing() as connection:
            connection.execute("INSERT OR REPLACE INTO boards VALUES (?, ?, ?, ?)", (board, kind, title, time.time()))
            connection.execute("DELETE FROM board_jobs WHERE board = ?", (board,))
            rows = [(board, place, job) for place, job in enumerate(jobs)]
            connection.executemany("INSERT INTO board_jobs VALUES (?, ?, ?)", rows)

    def add_to_board(self, board: str, jobs: Sequence[str]) -> None:
        """Put more clips at the end of a board."""
        with self._writing() as connection:
            (last,) = connection.execute(
                "SELECT COALESCE(MAX(place), -1) FROM board_jobs WHERE board = ?", (board,)
            ).fetchone()
            rows = [(board, last + 1 + place, job) for place, job in enumerate(jobs)]
            connection.executemany("INSERT INTO board_jobs VALUES (?, ?, ?)", rows)

    def boards(self, *, kind: str, limit: int = 30) -> tuple[Board, ...]:
        """The newest first."""
        query = "SELECT id, kind, title, at FROM boards WHERE kind = ? ORDER BY at DESC LIMIT ?"
        return tuple(self._board(row) for row in self._rows(query, kind, limit))

    def board(self, board: str) -> Board | None:
        """One of them, or None."""
        rows = self._rows("SELECT id, kind, title, at FROM boards WHERE id = ?", board)
        return self._board(rows[0]) if rows else None

    def settings(self) -> dict[str, str]:
        """All that were changed."""
        return {str(name): str(value) for name, value in self._rows("SELECT name, value FROM settings")}

    def set_settings(self, values: Mapping[str, str]) -> None:
        """Change some; an empty value is as if it had never been given."""
        with self._writing() as connection:
            for name, value in values.items():
                connection.execute("DELETE FROM settings WHERE name = ?", (name,))
                if value:
                    connection.execute("INSERT INTO settings VALUES (?, ?)", (name, value))

    def _board(self, row: tuple[object, ...]) -> Board:
        board, kind, title, at = row
        jobs = self._rows("SELECT job FROM board_jobs WHERE board = ? ORDER BY place", str(board))
        return Board(str(board), str(kind), str(title), float(str(at)), tuple(str(job) for (job,) in jobs))

    def _rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        with self._open() as connection:
            return list(connection.execute(query, values))

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection for one thing to do; what is not committed when it closes is undone."""
        path = self._data / FILE
        try:
            make_private(self._data)
            with closing(sqlite3.connect(path, timeout=_PATIENCE_SECONDS, isolation_level=None)) as connection:
                connection.execute("PRAGMA synchronous = FULL")
                self._prepare(connection)
                yield connection
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{path} cannot be used: {error}; free the disk, or move the file away") from None

    def _prepare(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if self._is_ready:
                return
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > _VERSION:
                raise StoreUnavailable(f"{self._data / FILE} was written by a newer homereel; update this one")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_TABLES)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
            self._is_ready = True
