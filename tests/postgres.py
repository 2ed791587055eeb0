"""A PostgreSQL server for tests: the one that HOMEREEL_TEST_POSTGRES names, or one of our own in a temporary folder."""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import OperationalError

_GIVEN = os.environ.get("HOMEREEL_TEST_POSTGRES")  # read now: tests see no such variable
_START_SECONDS = 60
_QUICK = ("listen_addresses=", "fsync=off", "shared_buffers=16MB", "max_connections=30", "autovacuum=off")
_numbers = itertools.count()


@contextmanager
def run_postgres() -> Iterator[str]:
    """The URL of a server that runs. Skips the test, with the reason, where there is none."""
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed: pip install 'homereel[postgres]'")
    if _GIVEN:
        yield str(make_url(_GIVEN).set(drivername="postgresql+psycopg").render_as_string(hide_password=False))
        return
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed, and HOMEREEL_TEST_POSTGRES names none")
    with _own_folder() as (folder, who):
        yield from _serve(programs, folder, who)


@contextmanager
def own_schema(server: str) -> Iterator[str]:
    """The URL of an empty place in a server, which is gone afterwards."""
    name = f"homereel_test_{os.getpid()}_{next(_numbers)}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE SCHEMA {name}")
            url = make_url(server).update_query_dict({"options": f"-csearch_path={name}"})
            yield url.render_as_string(hide_password=False)
            connection.exec_driver_sql(f"DROP SCHEMA {name} CASCADE")
    finally:
        engine.dispose()


def _programs() -> Path | None:
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    whole = [folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()]
    return whole[-1] if whole else None


@contextmanager
def _own_folder() -> Iterator[tuple[Path, dict[str, Any]]]:
    """A folder with a short name, for a socket's path has little room, and as whom to run: never as root."""
    folder = Path(tempfile.mkdtemp(prefix="hr-pg-"))
    who: dict[str, Any] = {}
    try:
        if os.getuid() == 0:
            import pwd

            try:
                entry = pwd.getpwnam("postgres")
            except KeyError:
                entry = pwd.getpwnam("nobody")
            who = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            os.chown(folder, entry.pw_uid, entry.pw_gid)
        yield folder, {**who, "cwd": folder, "stdin": subprocess.DEVNULL}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _serve(programs: Path, folder: Path, who: dict[str, Any]) -> Iterator[str]:
    data = str(folder / "data")
    make = [str(programs / "initdb"), "-D", data, "-U", "homereel", "-A", "trust", "--no-sync", "-E", "UTF8"]
    made = subprocess.run([*make, "--locale=C"], capture_output=True, text=True, check=False, **who)
    if made.returncode:
        pytest.skip(f"initdb failed: {made.stderr.strip()[-200:]}")
    settings = [word for setting in _QUICK for word in ("-c", setting)]
    with (folder / "log").open("wb") as log:
        command = [str(programs / "postgres"), "-D", data, "-k", str(folder), *settings]
        server = subprocess.Popen(command, stdout=log, stderr=log, **who)
    url = f"postgresql+psycopg://homereel@/postgres?host={folder}"
    try:
        _wait_for(url, server)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    engine = create_engine(url)
    until = time.monotonic() + _START_SECONDS
    try:
        while True:
            try:
                with engine.connect():
                    return
            except OperationalError as error:
                if server.poll() is not None or time.monotonic() > until:
                    pytest.skip(f"the PostgreSQL server did not start: {error}")
            time.sleep(0.05)
    finally:
        engine.dispose()
