"""Makes plans in this very process, which imports torch for it; `planning_process` has that done by another."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Protocol

from homereel.core.gpu import has_cuda_gpu
from homereel.core.machine import Machine
from homereel.core.request import Request

if TYPE_CHECKING:
    from homereel.core.plan import Plan
    from homereel.engine.session import Session

_PROBE = (
    "import json; from homereel.planning.machine import probe_machine; print(json.dumps(probe_machine().as_dict()))"
)
_PROBE_SECONDS = 120


class Plans(Protocol):
    """Where plans come from. One thread at a time calls it; `close` may come from another, meanwhile or twice."""

    def ready(self) -> None:
        """Have everything there for the first plan."""

    def plan(self, request: Request) -> Plan:
        """What the engine would make of it, without loading weights; raises what the engine raises."""

    def close(self) -> None:
        """Let go of everything; nothing is planned afterwards."""


class PlansHere:
    """Opens a session with the first plan, which takes seconds."""

    def __init__(self) -> None:
        self._session: Session | None = None

    def ready(self) -> None:
        """Import the engine and look at the machine."""
        import homereel.engine.generate  # noqa: F401

        self._opened()

    def plan(self, request: Request) -> Plan:
        """Raises what the engine raises, such as DoesNotFit for a clip that needs more memory than there is."""
        from homereel.engine.generate import make_plan

        return make_plan(request, session=self._opened())

    def close(self) -> None:
        """Nothing is loaded, so there is nothing to free."""

    def _opened(self) -> Session:
        from homereel.server.planning_session import PlanningSession

        if self._session is None:
            self._session = PlanningSession(machine=_machine())
        return self._session


def _machine() -> Machine | None:
    """Another process looks at a GPU: whoever has looked holds hundreds of megabytes of its memory."""
    if not has_cuda_gpu():
        return None
    told = subprocess.run(
        [sys.executable, "-c", _PROBE], stdout=subprocess.PIPE, timeout=_PROBE_SECONDS, check=False, text=True
    )
    return Machine.read(json.loads(told.stdout)) if told.returncode == 0 else None
