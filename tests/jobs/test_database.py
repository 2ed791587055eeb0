"""Databases that are damaged, locked, full, foreign, old or new; and PostgreSQL that cannot be reached."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection

from homereel.core.errors import JobsError, StoreDamaged, StoreUnavailable, UnwritableTarget
from homereel.jobs import migrate
from homereel.jobs.blobs import JobFolder
from homereel.jobs.data import data_folder, has_store
from homereel.jobs.schema import jobs
from homereel.jobs.store import JobStore
from homereel.jobs.submit import Submission, submit
from tests.jobs.conftest import REQUEST


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder that is not there yet."""
    return tmp_path / "data"


def make(data: Path, *, num_jobs: int) -> list[str]:
    """A database of some pages, all of it in the one file."""
    with JobStore.in_folder(data) as store, store._database.writing() as connection:
        given = Submission({**REQUEST, "negative_prompt": "x" * 500})
        return [submit(connection, given).id for _ in range(num_jobs)]


def damage_middle(file: Path) -> None:
    content = bytearray(file.read_bytes())
    for start in range(4096, len(content), 4096):
        content[start : start + 200] = bytes(range(200))
    file.write_bytes(content)


def damage_head(file: Path) -> None:
    file.write_bytes(b"not a database at all, but longer than its header would be" * 20)


def damage_where_jobs_are(file: Path) -> None:
    """Pages that a start does not read of its own accord."""
    content = bytearray(file.read_bytes())
    content[-4 * 4096 :: 4096] = b"\x99" * 4
    file.write_bytes(content)


def damage_end(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: 3 * 4096])


def test_the_data_folder_is_private(data: Path) -> None:
    assert not has_store(data)
    make(data, num_jobs=1)
    assert has_store(data)
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in data.iterdir()} == {0o600}


def test_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMEREEL_HOME", str(tmp_path))
    assert data_folder() == tmp_path / "jobs"
    assert data_folder(Path("here")) == Path.cwd() / "here"


def test_every_write_is_on_the_disk_and_readers_do_not_wait(data: Path) -> None:
    with JobStore.in_folder(data) as store:
        with store._database.writing() as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
            assert store.list().jobs == ()
        with store._database.writing(lazy=True) as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1
        with store._database.writing() as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2


@pytest.mark.parametrize("damage", [damage_middle, damage_where_jobs_are, damage_head, damage_end])
def test_case_45_a_damaged_database_is_told_and_its_backup_serves(data: Path, damage: Callable[[Path], None]) -> None:
    made = make(data, num_jobs=40)
    with JobStore.in_folder(data) as store:
        backup = store.back_up()
    assert backup is not None
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    file = data / "jobs.sqlite3"
    damage(file)
    broken = file.read_bytes()
    with pytest.raises(StoreDamaged, match="damaged") as caught:
        JobStore.in_folder(data)
    assert str(backup) in str(caught.value)
    assert file.read_bytes() == broken
    for name in ("jobs.sqlite3", "jobs.sqlite3-wal", "jobs.sqlite3-shm"):  # what the message says
        if (data / name).exists():
            (data / name).rename(data / f"broken-{name}")
    file.write_bytes(backup.read_bytes())
    with JobStore.in_folder(data) as store:
        assert [job.id for job in store.list(limit=100, newest_first=False).jobs] == made


def test_case_45_without_a_backup_the_message_says_so(data: Path) -> None:
    make(data, num_jobs=1)
    damage_head(data / "jobs.sqlite3")
    with pytest.raises(StoreDamaged, match="has no backup"):
        JobStore.in_folder(data)


def test_case_45_a_locked_database_is_told_and_can_be_read(data: Path) -> None:
    made = make(data, num_jobs=1)
    with closing(sqlite3.connect(data / "jobs.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with JobStore.in_folder(data, patience_seconds=0.1) as store:
            with pytest.raises(StoreUnavailable, match="locked by another program"):
                store.submit(REQUEST)
            assert [job.id for job in store.list().jobs] == made
            other.execute("COMMIT")
            assert store.submit(REQUEST).status == "queued"


def test_a_backup_is_whole_while_others_write(data: Path) -> None:
    with JobStore.in_folder(data) as store:
        first = store.submit(REQUEST)
        backup = store.back_up()
        store.submit(REQUEST)
        assert backup == store.back_up()
    assert backup is not None
    with closing(sqlite3.connect(backup)) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert copy.execute("SELECT id FROM jobs ORDER BY number").fetchall()[0] == (first.id,)
    assert sorted(path.name for path in data.iterdir()) == ["jobs.sqlite3", "jobs.sqlite3.backup"]


def add_column(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE jobs ADD COLUMN colour TEXT")


def fail_half_way(connection: Connection) -> None:
    add_column(connection)
    raise ZeroDivisionError


def set_version(monkeypatch: pytest.MonkeyPatch, version: int, steps: Mapping[int, object]) -> None:
    monkeypatch.setattr(migrate, "VERSION", version)
    monkeypatch.setattr(migrate, "STEPS", steps)


def test_an_older_version_is_migrated_after_a_backup(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(data, num_jobs=2)
    set_version(monkeypatch, 3, {1: add_column, 2: lambda _: None})
    for _ in range(2):
        with JobStore.in_folder(data) as store:
            assert len(store.list().jobs) == 2
    with closing(sqlite3.connect(data / "jobs.sqlite3")) as now:
        assert now.execute("SELECT version FROM schema_version").fetchall() == [(3,)]
        assert now.execute("SELECT colour FROM jobs").fetchall() == [(None,)] * 2
    with closing(sqlite3.connect(data / "jobs.sqlite3.before-version-3")) as before:
        assert before.execute("SELECT version FROM schema_version").fetchall() == [(1,)]
        assert before.execute("SELECT id FROM jobs ORDER BY number").fetchall() == [(job,) for job in made]
    monkeypatch.undo()
    with pytest.raises(StoreDamaged, match=r"newer homereel \(version 3.*before-version-3"):
        JobStore.in_folder(data)


def test_a_migration_that_fails_changes_nothing(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(data, num_jobs=1)
    with monkeypatch.context() as patch:
        set_version(patch, 2, {1: fail_half_way})
        with pytest.raises(ZeroDivisionError):
            JobStore.in_folder(data)
    with JobStore.in_folder(data) as store:
        assert [job.id for job in store.list().jobs] == made
    with closing(sqlite3.connect(data / "jobs.sqlite3")) as now:
        assert "colour" not in {row[1] for row in now.execute("PRAGMA table_info(jobs)")}


def test_postgres_migrates_too(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.postgres import own_schema

    with own_schema(postgres) as url:
        with JobStore.open(url) as store:
            job = store.submit(REQUEST)
            assert store.back_up() is None
        with monkeypatch.context() as patch:
            set_version(patch, 2, {1: fail_half_way})
            with pytest.raises(ZeroDivisionError):
                JobStore.open(url)
            set_version(patch, 2, {1: add_column})
            with JobStore.open(url) as store:
                assert store.get(job.id) == job
        with pytest.raises(StoreDamaged, match="newer homereel"):
            JobStore.open(url)


@pytest.mark.parametrize("version", ["", "INSERT INTO schema_version VALUES (0)"])
def test_a_foreign_database_is_left_alone(data: Path, version: str) -> None:
    data.mkdir()
    with closing(sqlite3.connect(data / "jobs.sqlite3")) as other:
        other.execute("CREATE TABLE jobs (salary INTEGER)")
        if version:
            other.execute("CREATE TABLE schema_version (version INTEGER)")
            other.execute(version)
        other.commit()
    with pytest.raises(StoreDamaged, match="does not say its version" if version else "another program"):
        JobStore.in_folder(data)
    with closing(sqlite3.connect(data / "jobs.sqlite3")) as other:
        assert len(other.execute("SELECT name FROM sqlite_master").fetchall()) == (2 if version else 1)


def test_a_url_in_the_folder_names_the_database(data: Path, tmp_path: Path) -> None:
    data.mkdir()
    (data / "database.url").write_text(f"sqlite:///{tmp_path}/elsewhere.sqlite3\n", encoding="utf-8")
    assert has_store(data)
    with JobStore.in_folder(data) as store:
        store.submit(REQUEST)
    assert (tmp_path / "elsewhere.sqlite3").exists()
    assert not (data / "jobs.sqlite3").exists()
    for content, message in (("", "one URL"), ("a b", "one URL"), ("mysql://x", "postgresql"), ("sqlite://", "sqlite")):
        (data / "database.url").write_text(content, encoding="utf-8")
        with pytest.raises(JobsError, match=message):
            JobStore.in_folder(data)


def test_case_46_a_password_stays_out_of_messages(postgres: str) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be used now") as caught:
        JobStore.open("postgresql://someone:s3cret@127.0.0.1:9/films", patience_seconds=1)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(JobsError) as refused:
        JobStore.open("mysql://someone:s3cret@host/films")
    assert "s3cret" not in str(refused.value)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StoreUnavailable, match="cannot be made"):
        JobStore.in_folder(tmp_path / "file" / "data")


def test_case_50_a_thousand_queued_jobs_cost_neither_handles_nor_memory(data: Path) -> None:
    make(data, num_jobs=1)
    with JobStore.in_folder(data) as store:
        multiply(store, 1_000)
        made = [job.id for job in store.list(limit=1_000).jobs]
        use(store, made, rounds=2)  # statements and connections are kept from here on
        handles = num_handles()
        tracemalloc.start()
        use(store, made, rounds=2)
        before = tracemalloc.get_traced_memory()[0]
        use(store, made, rounds=6)
        now, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert num_handles() == handles
        assert now - before < 100_000
        assert peak - before < 2_000_000
        assert store.counts()["queued"] == 1_000


def use(store: JobStore, made: list[str], *, rounds: int) -> None:
    for index in range(rounds):
        page = store.list(limit=20, after=made[500 + index])
        assert len(page.jobs) == 20
        lease = store.claim("w")
        assert lease is not None
        store.renew(lease, steps_done=1)
        store.give_back(lease, "queued")
        store.events(store.last_event() - 10)


def multiply(store: JobStore, num_jobs: int) -> None:
    """Copy the only job, more quickly than by submitting it again and again."""
    same = ", ".join(column.name for column in jobs.columns if column.name not in ("number", "id", "place"))
    with store._database.writing() as connection:
        connection.exec_driver_sql(
            f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {num_jobs - 1}) "
            f"INSERT INTO jobs (id, place, {same}) SELECT 'video_' || printf('%032x', i), 1 + i, {same} FROM jobs, n"
        )


def num_handles() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    if sys.platform != "linux" or os.getuid() != 0:
        pytest.skip("only root can mount a small disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> Path:
    """Leave no room on a disk."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    return ballast


def test_case_39_a_full_disk_changes_nothing_and_ends_well(small_disk: Path) -> None:
    data = small_disk / "data"
    with JobStore.in_folder(data) as store:
        job = store.submit(REQUEST)
        lease = store.claim("w")
        assert lease is not None
        folder = JobFolder(data, job.id)
        folder.make()
        part = folder.path / "clip.part"
        part.write_bytes(b"film")
        ballast = fill(small_disk)
        with pytest.raises(StoreUnavailable, match="full"):
            submit_many(store)  # what room the log had is used up
        acknowledged = store.counts()["queued"]
        with pytest.raises(StoreUnavailable):
            store.complete(lease, {"file": "clip.mp4"}, publish=lambda: folder.publish(part, "clip.mp4"))
        assert store.get(job.id).status == "running"
        with pytest.raises(UnwritableTarget, match="upload"), (Path("/dev/zero")).open("rb") as endless:
            folder.put_input(endless, ".png")
        assert list(folder.inputs.iterdir()) == []
        ballast.unlink()
        done = store.complete(lease, {"file": "clip.mp4"}, publish=lambda: folder.publish(part, "clip.mp4"))
        assert done.status == "completed"
        assert folder.clip.read_bytes() == b"film"
        assert store.counts()["queued"] == acknowledged
    with closing(sqlite3.connect(data / "jobs.sqlite3")) as whole:
        assert whole.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def submit_many(store: JobStore) -> None:
    for _ in range(200):
        store.submit({"prompt": "x" * 9_000})


def test_case_39_a_store_cannot_be_made_on_a_full_disk(small_disk: Path) -> None:
    fill(small_disk)
    with pytest.raises(StoreUnavailable):
        JobStore.in_folder(small_disk / "data")
