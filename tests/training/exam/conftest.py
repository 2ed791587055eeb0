"""The reader works on small tensors: one thread is fastest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from homereel.training.exam.exam import one_thread


@pytest.fixture(autouse=True)
def single_thread() -> Iterator[None]:
    with one_thread():
        yield
