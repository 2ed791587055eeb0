"""Plans requests without weights: a request that cannot be carried out is refused before it is queued.

Where plans are made, in a process of their own or in this one, is `Plans`' matter; the last ones are kept here.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from homereel.core.errors import HomereelError
from homereel.core.request import MAX_SEED, Request
from homereel.server.attachments import attachments, with_paths
from homereel.server.plans_here import Plans

if TYPE_CHECKING:
    from homereel.core.plan import Plan

# Drafts differ in their seeds alone: what was planned so lately is planned again with another seed.
_FRESH_SECONDS, _MAX_KEPT = 2.0, 64


class Planner:
    """May be used from several threads; it plans one request at a time.

    With `any_folder` a model may be named by its folder; a stranger may only name what is installed.
    """

    def __init__(self, plans: Plans, *, any_folder: bool = False) -> None:
        self._plans = plans
        self._any_folder = any_folder
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, Plan]] = {}

    def warm(self) -> None:
        """Have everything ready for the first plan."""
        with self._lock:
            self._plans.ready()

    def close(self) -> None:
        """No more plans; one that is being made is broken off."""
        self._plans.close()

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
                    return self._plans.plan(request)
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
        plan = self._plans.plan(request)
        if len(self._kept) >= _MAX_KEPT:
            self._kept.clear()
        self._kept[wish] = now, plan
        return plan


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
