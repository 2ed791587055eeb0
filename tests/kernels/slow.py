"""Cases that the default run leaves out because each takes long: `make slow` runs them."""

from __future__ import annotations

from typing import Any

import pytest


def slow(*cases: tuple[Any, ...]) -> list[Any]:
    """Further cases of a test, each with its values."""
    return [pytest.param(*case, marks=pytest.mark.slow) for case in cases]
