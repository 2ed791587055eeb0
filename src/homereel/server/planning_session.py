"""A session that only plans: it remembers for a few seconds what a model is, since requests come in hundreds."""

from __future__ import annotations

import time
from typing import Any, cast

from homereel.core.machine import Machine
from homereel.core.protocols import Family
from homereel.engine.session import Session

# A model that is installed, replaced or removed is noticed after so long.
REMEMBERED_SECONDS = 5.0


class PlanningSession(Session):
    """Opens a model's configuration once for many plans, and counts its weights once."""

    def __init__(self, *, machine: Machine | None = None) -> None:
        super().__init__(machine=machine)
        self._known: dict[str | None, tuple[float, Family]] = {}

    def family(self, model: str | None) -> Family:
        """The model of this name; raises as `Session.family` does."""
        now = time.monotonic()
        self._known = {name: known for name, known in self._known.items() if now - known[0] < REMEMBERED_SECONDS}
        if model not in self._known:
            self._known[model] = now, cast("Family", _Counted(super().family(model)))
        return self._known[model][1]


class _Counted:
    """A family whose weights are added up once."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._bytes: dict[tuple[str, str], int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._family, name)

    def weight_bytes(self, component: str, *, dtype: str) -> int:
        key = (component, dtype)
        if key not in self._bytes:
            self._bytes[key] = self._family.weight_bytes(component, dtype=dtype)
        return self._bytes[key]
