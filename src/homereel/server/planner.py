"""Plans requests in this process, without weights: a request that cannot be carried out is refused before it is queued.

torch is imported with the first plan, which takes seconds; `warm` does that ahead of time.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from homereel.core.errors import HomereelError
from homereel.core.gpu import has_cuda_gpu
from homereel.core.machine import Machine
from homereel.core.request import MAX_SEED, Request
from homereel.server.attachments import attachments, with_paths

if TYPE_CHECKING:
    from homereel.core.plan import Plan
    from homereel.engine.session import Session

_PROBE = (
    "import json; from homereel.planning.machine import probe_machine; print(json.dumps(probe_machine().as_dict()))"
)
_PROBE_SECONDS = 120
# Drafts differ in their seeds alone: what was planned so lately is planned again with another seed.
_FRESH_SECONDS, _MAX_KEPT = 2.0, 64


class Planner:
    """May be used from several threads; it plans one request at a time.

    With `any_folder` a model may be named by its folder; a stranger may only name what is installed.
    """

    def __init__(self, *, any_folder: bool = False) -> None:
        self._any_folder = any_folder
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._kept: dict[str, tuple[float, Plan]] = {}

    def warm(self) -> None:
        """Have everything ready for the first plan."""
        with self._lock:
            self._ready()

    def plan(self, fields: Mapping[str, Any]) -> Plan:
        """What would be made of a request here.

        Raises what the engine raises, such as DoesNotFit for a clip that needs more memory than there is; paths of ours
        do not stand in a message.
        """
        try:
            request = Request.parse(with_paths(fields))
            if request.model is not None and not self._any_folder:
                _check_name(request.model)
            with self._lock:
                if any(attachments(fields)):  # a file may be another one by now
                    return self._planned(request)
                return self._fresh_or_planned(request)
        except HomereelError as error:
            error.args = (_without_paths(str(error), fields),)
            raise

    def _fresh_or_planned(self, request: Request) -> Plan:
        wish, now = request.model_dump_json(exclude={"seed"}), time.monotonic()
        at, plan = self._kept.get(wish, (0.0, None))
        if plan is not None and now - at < _FRESH_SECONDS:
            seed = secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed
            return replace(plan, seed=seed)
        plan = self._planned(request)
        if len(self._kept) >= _MAX_KEPT:
            self._kept.clear()
        self._kept[wish] = now, plan
        return plan

    def _planned(self, request: Request) -> Plan:
        from homereel.engine.generate import make_plan

        return make_plan(request, session=self._ready())

    def _ready(self) -> Session:
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


def _check_name(model: str) -> None:
    """Raises UnknownModel for anything but a name."""
    from homereel.models.registry import find_card
    from homereel.weights.imported import imported_model

    if imported_model(model) is None:
        find_card(model)


def _without_paths(text: str, fields: Mapping[str, Any]) -> str:
    for each in attachments(fields):
        text = text.replace(str(each.path), each.shown)
    return text
