"""A server without a worker for most tests, and a client that calls it as a program on the same machine does."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from homereel.jobs.store import JobStore
from homereel.server.app import create_app
from homereel.server.parts import Parts
from homereel.server.planner import Planner
from homereel.server.plans_here import PlansHere
from homereel.server.settings import Settings

BASE = "http://127.0.0.1:8420"
Serve: TypeAlias = Callable[..., TestClient]


def install(folder: Path, *, home: Path, name: str) -> None:
    """Make a model's folder one that is installed under a name, as an import leaves it."""
    target = home / "imported" / name
    shutil.copytree(folder, target)
    note = {"schema": 1, "name": name, "family": "wan", "sources": [], "base": "", "dtype": "float32", "remarks": []}
    (target / "import.json").write_text(json.dumps(note))


@pytest.fixture(scope="session")
def server_home(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path, tiny_image_model_dir: Path) -> Path:
    """A home with the tiny models: `tiny` takes words and footage, `tiny-image` also a first picture."""
    home = tmp_path_factory.mktemp("server-home")
    install(tiny_model_dir, home=home, name="tiny")
    install(tiny_image_model_dir, home=home, name="tiny-image")
    return home


@pytest.fixture
def at_home(own_surroundings: None, monkeypatch: pytest.MonkeyPatch, server_home: Path) -> None:
    """The tiny models are those that are installed."""
    monkeypatch.setenv("HOMEREEL_HOME", str(server_home))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def serve(data: Path, at_home: None) -> Iterator[Serve]:
    """`serve(token=...)` gives a client of a server with these settings, which takes jobs, plans them in this process
    and has no worker."""
    running: list[TestClient] = []

    def start(*, headers: dict[str, str] | None = None, **settings: Any) -> TestClient:
        app = create_app(Settings(**{"data": data, "workers": 0, **settings}), planner=Planner(PlansHere()))
        client = TestClient(app, base_url=BASE, headers=headers, raise_server_exceptions=False, follow_redirects=False)
        client.__enter__()
        running.append(client)
        return client

    yield start
    for client in running:
        client.__exit__(None, None, None)


@pytest.fixture
def client(serve: Serve) -> TestClient:
    return serve()


def parts_of(client: TestClient) -> Parts:
    app = client.app
    assert isinstance(app, FastAPI)
    parts: Parts = app.state.parts
    return parts


@pytest.fixture
def store(client: TestClient) -> JobStore:
    """The store behind `client`."""
    return parts_of(client).store


def png(width: int = 32, height: int = 32) -> bytes:
    """A picture with something to see."""
    import numpy as np
    from PIL import Image

    held = io.BytesIO()
    pixels = np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(held, "PNG")
    return held.getvalue()


def error_of(answer: Any) -> dict[str, Any]:
    """What an answer says went wrong, in the shape that all failures have."""
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert "\n" not in error["message"]
    return error
