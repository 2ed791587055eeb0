"""What runs were told to take and what they took, in a small SQLite file; the next plan is corrected by it.

Of each kind of run the last ones are kept. How far off a plan is going to be is the median of how far off they were,
drawn towards "not at all" while there are few of them; the band around it comes from how far they lie apart.
"""

from __future__ import annotations

import math
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from homereel.core.errors import StoreUnavailable

FILE = "ledger.sqlite3"
# Of one kind of run, and of all; the oldest go first.
KEPT_A_KEY, KEPT = 64, 4096
PATIENCE_SECONDS = 5.0
# Nobody's plan is off by more; a clock that stood still or a machine that slept is no reason to believe it.
LARGEST_RATIO = 32.0
# The same of peaks, which follow from shapes: whoever is off by more has a fault that no ledger should hide.
LARGEST_PEAK_RATIO = 2.0
# What is believed before any run is known counts as much as so many runs.
PRIOR_RUNS = 1.0
PRIOR_SPREAD_RUNS = 3.0
# 90% of a normal distribution lie within so many spreads of its middle.
BAND_SPREADS = 1.645

Measure: TypeAlias = Literal["seconds", "vram_bytes", "ram_bytes"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    model TEXT NOT NULL, machine TEXT NOT NULL, size_class TEXT NOT NULL, passes TEXT NOT NULL,
    predicted_seconds REAL, predicted_vram_bytes REAL, predicted_ram_bytes REAL,
    actual_seconds REAL, actual_vram_bytes REAL, actual_ram_bytes REAL,
    at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS runs_of_a_machine ON runs (machine, model, size_class, passes);
"""


@dataclass(frozen=True)
class RunKey:
    """What runs must have in common for one to tell of the other."""

    model: str
    machine: str
    size_class: str
    passes: str


@dataclass(frozen=True)
class Figures:
    """What one run takes, as the cost model says it (before any correction) or as it was; None where unknown."""

    seconds: float | None = None
    vram_bytes: float | None = None
    ram_bytes: float | None = None


@dataclass(frozen=True)
class Correction:
    """Multiply what the cost model says by `factor`; nine runs of ten lie between `low` and `high` times it."""

    factor: float
    low: float
    high: float
    num_runs: int = 0  # that it was learnt from

    def scaled(self, figure: float) -> tuple[float, float, float]:
        """The figure as it will be, and the band around it."""
        return figure * self.factor, figure * self.low, figure * self.high


# From the nearest to the farthest relative: what they share with the run to come, and how far off the middle of
# another's errors may be, as a spread of the ratio's logarithm. 0.136 is 25% in nine cases of ten.
_RELATIVES: tuple[tuple[tuple[str, ...], float], ...] = (
    (("machine", "model", "size_class", "passes"), 0.136),
    (("machine", "model", "passes"), 0.2),
    (("machine", "model"), 0.25),
    (("machine",), 0.35),
)
_UNKNOWN_SPREAD = 0.136
_PEAK_RELATIVES = ("machine", "model", "passes")
# A server plans hundreds of clips a second, and hardly any of them needs the file.
_MAX_ANSWERS = 256
_Question: TypeAlias = tuple[Path, RunKey, str]
_ANSWERS: dict[_Question, tuple[tuple[tuple[int, int, int], ...], Any]] = {}


class Ledger:
    """The file is opened for each question and closed again, so any number of threads and processes may share it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, home: Path) -> Ledger:
        """The ledger in this folder, which is made when something is written."""
        return cls(home / FILE)

    def record(self, key: RunKey, predicted: Figures, actual: Figures) -> None:
        """Remember a run that ended well. Raises StoreUnavailable if it cannot be written."""
        row = (*astuple(key), *astuple(predicted), *astuple(actual), time.time())
        with self._open(writing=True) as database:
            assert database is not None
            database.execute("BEGIN IMMEDIATE")
            database.execute(f"INSERT INTO runs ({_COLUMNS}) VALUES ({', '.join('?' * len(row))})", row)
            database.execute(
                "DELETE FROM runs WHERE model = ? AND machine = ? AND size_class = ? AND passes = ? AND number <= "
                "(SELECT number FROM runs WHERE model = ? AND machine = ? AND size_class = ? AND passes = ? "
                "ORDER BY number DESC LIMIT 1 OFFSET ?)",
                (*astuple(key), *astuple(key), KEPT_A_KEY),
            )
            database.execute(
                "DELETE FROM runs WHERE number <= (SELECT number FROM runs ORDER BY number DESC LIMIT 1 OFFSET ?)",
                (KEPT,),
            )
            database.execute("COMMIT")

    def correction(self, key: RunKey, measure: Measure = "seconds") -> Correction:
        """How to correct this figure of a plan: by runs like it, else by the nearest relatives that there are.

        What was answered is remembered until the file changes. Raises StoreUnavailable if the ledger is there and
        cannot be read.
        """
        answer: Correction = self._remembered((self.path, key, measure), lambda: self._correction(key, measure))
        return answer

    def peak_factor(self, key: RunKey, measure: Measure) -> float:
        """What to multiply a plan's peak by, as runs of this model with these passes on this machine had it, whatever
        their size: peaks are off by what a model holds, not by chance. See `peak_factor_of`; raises as `correction`.
        """

        def look() -> float:
            with self._open(writing=False) as database:
                if database is None:
                    return 1.0
                return peak_factor_of(_ratios(database, key, shared=_PEAK_RELATIVES, measure=measure))

        factor: float = self._remembered((self.path, key, f"peak of {measure}"), look)
        return factor

    def _remembered(self, question: _Question, look: Callable[[], Any]) -> Any:
        """What was answered until the file changes."""
        stamp = self._stamp()
        if question not in _ANSWERS or _ANSWERS[question][0] != stamp:
            answer = look()
            if len(_ANSWERS) >= _MAX_ANSWERS:
                _ANSWERS.clear()
            _ANSWERS[question] = stamp, answer
        return _ANSWERS[question][1]

    def _correction(self, key: RunKey, measure: Measure) -> Correction:
        with self._open(writing=False) as database:
            if database is not None:
                for shared, spread in _RELATIVES:
                    ratios = _ratios(database, key, shared=shared, measure=measure)
                    if ratios:
                        return correction_of(ratios, spread=spread)
        return correction_of((), spread=_UNKNOWN_SPREAD)

    def _stamp(self) -> tuple[tuple[int, int, int], ...]:
        """Differs after every write; empty while there is no file."""
        found = []
        for suffix in ("", "-wal"):
            try:
                told = self.path.with_name(self.path.name + suffix).stat()
            except OSError:
                continue
            found.append((told.st_ino, told.st_mtime_ns, told.st_size))
        return tuple(found)

    def num_runs(self) -> int:
        """How many runs are kept."""
        with self._open(writing=False) as database:
            return 0 if database is None else int(database.execute("SELECT count(*) FROM runs").fetchone()[0])

    @contextmanager
    def _open(self, *, writing: bool) -> Iterator[sqlite3.Connection | None]:
        """None to read what was never written. A file that is no database is set aside: it is only a memory."""
        if not writing and not self.path.exists():
            yield None
            return
        try:
            database = self._connect()
            if database is None:
                self._set_aside()
                database = self._connect()
            assert database is not None, "a new file is a database"
            with closing(database):
                yield database
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(
                f"{self.path} cannot be used: {error}; plans go on without it. Check its folder, or delete the file"
            ) from error

    def _connect(self) -> sqlite3.Connection | None:
        """None for a file that is damaged or something else."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self.path, timeout=PATIENCE_SECONDS, isolation_level=None)
        try:
            if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs_of_a_machine'").fetchone():
                database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
            database.execute(f"SELECT {_COLUMNS} FROM runs LIMIT 1").fetchone()
        except sqlite3.DatabaseError as error:
            database.close()
            if _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
                return None
            raise
        return database

    def _set_aside(self) -> None:
        for suffix in ("", "-wal", "-shm", "-journal"):
            file = self.path.with_name(self.path.name + suffix)
            if file.exists():
                file.replace(file.with_name(file.name + ".damaged"))


def correction_of(ratios: Sequence[float], *, spread: float) -> Correction:
    """From how many times more each run took than was told; `spread` is what is believed of runs before any is known.

    One run that went astray among three or more changes the middle little and the band not much.
    """
    logs = [math.log(min(LARGEST_RATIO, max(1 / LARGEST_RATIO, ratio))) for ratio in ratios]
    middle = statistics.median(logs) * len(logs) / (len(logs) + PRIOR_RUNS) if logs else 0.0
    # The median distance from the median, made comparable to a standard deviation.
    apart = 1.4826 * statistics.median(abs(log - statistics.median(logs)) for log in logs) if logs else 0.0
    weight = len(logs) / (len(logs) + PRIOR_SPREAD_RUNS)
    width = BAND_SPREADS * math.sqrt(weight * apart**2 + (1 - weight) * spread**2)
    return Correction(math.exp(middle), math.exp(middle - width), math.exp(middle + width), len(logs))


def peak_factor_of(ratios: Sequence[float]) -> float:
    """From how many times more memory each run took than was told, what to multiply the next plan's peak by.

    Upwards two runs must agree, so that one odd run does nothing; then they are believed at once, since a peak that is
    told too low may end a clip. Downwards it goes no further than to the highest run, and slowly while there are few.
    """
    if len(ratios) < 2:
        return 1.0
    second, highest = sorted(min(LARGEST_PEAK_RATIO, max(1 / LARGEST_PEAK_RATIO, ratio)) for ratio in ratios)[-2:]
    if second >= 1:
        return second
    return float(min(1.0, highest) ** (len(ratios) / (len(ratios) + PRIOR_RUNS)))


def size_class(num_tokens: int, num_frames: int) -> str:
    """Clips whose tokens and frames are of one size, to a factor of two in tokens, fall into one class."""
    return f"tokens 2^{math.floor(math.log2(max(1, num_tokens)))}, frames 2^{math.floor(math.log2(max(1, num_frames)))}"


def _ratios(database: sqlite3.Connection, key: RunKey, *, shared: tuple[str, ...], measure: Measure) -> list[float]:
    where = " AND ".join(f"{name} = ?" for name in shared)
    rows = database.execute(
        f"SELECT actual_{measure} / predicted_{measure} FROM runs "
        f"WHERE {where} AND predicted_{measure} > 0 AND actual_{measure} > 0 ORDER BY number DESC LIMIT ?",
        (*(getattr(key, name) for name in shared), KEPT_A_KEY),
    )
    return [float(ratio) for (ratio,) in rows]


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


_COLUMNS = (
    "model, machine, size_class, passes, predicted_seconds, predicted_vram_bytes, predicted_ram_bytes, "
    "actual_seconds, actual_vram_bytes, actual_ram_bytes, at"
)
