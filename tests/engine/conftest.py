"""A warm session for the engine's tests, and requests for the tiny models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from homereel.core.request import Request
from homereel.engine.session import Session


class MakeRequest(Protocol):
    def __call__(self, **wishes: Any) -> Request: ...


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session() as warm:
        yield warm


@pytest.fixture
def tiny(tiny_model_dir: Path) -> MakeRequest:
    """A request for the tiny text-to-video model."""

    def make(**wishes: Any) -> Request:
        return Request.parse({"prompt": "a red ball falls", "model": str(tiny_model_dir), "seed": 7, **wishes})

    return make


@pytest.fixture
def picture_path(tmp_path: Path) -> Path:
    """A first frame of 32x32, noisy so that nothing about it can be guessed."""
    import numpy as np
    from PIL import Image

    path = tmp_path / "first.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    return path
