"""The passes of a clip: chosen by name or by turbo, checked against model and machine, written into its plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from homereel.core.errors import InvalidRequest
from homereel.core.machine import Machine
from homereel.core.plan import Plan
from homereel.core.protocols import Family, Pass
from homereel.core.request import Request
from homereel.passes import parse_passes, slow_here, turbo, worst_exactness
from homereel.weights.hashes import hash_files


def choose_passes(request: Request, plan: Plan, *, family: Family, machine: Machine) -> tuple[tuple[Pass, ...], Plan]:
    """The passes that the request wants for this plan, and the plan with them.

    What was asked for by name is done even where it does not pay, and the plan says so. Raises InvalidRequest for
    words that name no pass, UnsupportedPass for one that model or machine cannot take.
    """
    passes, remarks = parse_passes(request.passes), []
    size = {"num_tokens": plan.num_tokens, "num_calls": _num_calls(plan, family=family)}
    for each in passes:
        each.check(family, machine)
        slow = slow_here(each, family=family, machine=machine, **size)
        remarks += [] if slow is None else [slow]
    if request.turbo is not None and not passes:
        choice = turbo(request.turbo, family=family, machine=machine, **size)
        passes, remarks = choice.passes, list(choice.remarks)
    return passes, replace(
        plan,
        passes=tuple(each.spec for each in passes),
        exactness=worst_exactness(passes),
        warnings=(*plan.warnings, *remarks),
    )


def pass_files(passes: Sequence[Pass]) -> dict[str, str]:
    """SHA-256 of the files that belong to passes, by names for the record."""
    files = [file for each in passes for file in each.files]
    return hash_files({f"passes.{index}": file for index, file in enumerate(files)})


def check_resumable_with(passes: Sequence[Pass]) -> None:
    """Raises InvalidRequest if a clip cannot be taken up in the middle, because its steps depend on those before."""
    for each in passes:
        if each.remembers:
            raise InvalidRequest(
                f"a clip made with {each.name} cannot be taken up in the middle: its steps depend on those before; "
                "start it anew",
                field="resume",
            )


def _num_calls(plan: Plan, *, family: Family) -> int:
    """About how often the transformer is called; guidance takes two calls a step at least."""
    steps = sum(stage.steps_to_do for stage in family.stages(plan))
    return steps * (2 if max(plan.guidance, plan.guidance_2 or 1) > 1 else 1)
