"""A tiny Wan to put LoRAs onto."""

from __future__ import annotations

import pytest
from torch import nn

from tests.tiny_loras import tiny_wan


@pytest.fixture
def network() -> nn.Module:
    return tiny_wan()
