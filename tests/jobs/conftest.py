"""Stores to test: each test of `store` runs on SQLite, and on PostgreSQL where a server is to be had."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from homereel.jobs.records import Job
from homereel.jobs.store import JobStore
from tests.postgres import own_schema, run_postgres

REQUEST = {"prompt": "a red ball bounces on a green floor"}

Submit: TypeAlias = Callable[..., Job]
Spawn: TypeAlias = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a server."""
    with run_postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'data' / 'jobs.sqlite3'}"
        return
    with own_schema(request.getfixturevalue("postgres")) as url:
        yield url


@pytest.fixture
def store(url: str) -> Iterator[JobStore]:
    """An empty store."""
    with JobStore.open(url) as store:
        yield store


@pytest.fixture
def submit(store: JobStore) -> Submit:
    """`submit(model="a")` queues a job."""
    return lambda **more: store.submit(REQUEST, **more)


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """`spawn(SCRIPT, argument, ...)` runs Python in a process that ends with the test at the latest."""
    started: list[subprocess.Popen[str]] = []

    def start(script: str, *words: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", script, *map(str, words)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
