"""The passes of a clip: chosen by name or by turbo, checked against model and machine, written into its plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from homereel.core.errors import InvalidRequest, UnsupportedPass
from homereel.core.machine import Machine
from homereel.core.plan import Plan
from homereel.core.protocols import Family, Pass
from homereel.core.request import Request
from homereel.engine.loras import DENOISERS
from homereel.models.shared_facts import ITEM_BYTES, FolderFacts
from homereel.passes import parse_passes, slow_here, turbo, worst_exactness
from homereel.passes.quantize import Quantize
from homereel.passes.residency import StreamBlocks
from homereel.planning.memory import plan_memory
from homereel.weights.hashes import hash_files

# Of a model's own passes, the one without which it is another model, and the one for layers that are in 8 bits anyway.
_TUNED, _IN_FILES = "sparse_attention", "int8_block"
_EIGHT_BIT = ("int8", "int8_block", "fp8")


def choose_passes(request: Request, plan: Plan, *, family: Family, machine: Machine) -> tuple[tuple[Pass, ...], Plan]:
    """The passes that the request wants for this plan, and the plan with them.

    What was asked for by name is done even where it does not pay, and the plan says so. A model that was trained with
    passes has these unless others are named or turbo is off. Raises InvalidRequest for words that name no pass,
    UnsupportedPass for one that model or machine cannot take.
    """
    choose = _named if request.passes else _chosen
    size = {"num_tokens": plan.num_tokens, "num_calls": _num_calls(plan, family=family)}
    passes, remarks = choose(request, family=family, machine=machine, size=size)
    return passes, replace(
        _with_memory(plan, passes=passes, family=family, machine=machine),
        passes=tuple(each.spec for each in passes),
        exactness=worst_exactness(passes),
        warnings=(*plan.warnings, *remarks, *_missed(passes, family=family, num_tokens=plan.num_tokens)),
    )


def _with_memory(plan: Plan, *, passes: Sequence[Pass], family: Family, machine: Machine) -> Plan:
    """The plan with other bytes, where layers in 8 bits take less than was reckoned."""
    eight_bit = [each for each in passes if isinstance(each, Quantize)]
    if not eight_bit or not isinstance(family, FolderFacts):
        return plan
    size = {"width": plan.width, "height": plan.height, "num_frames": plan.num_frames}
    freed = {
        part: eight_bit[0].freed_bytes(family.tensors(part), item_bytes=ITEM_BYTES[plan.dtype])
        for part in DENOISERS
        if part in family.components
    }
    memory = plan_memory(family, machine=machine, shapes=family.shapes(**size, dtype=plan.dtype), freed=freed)
    return replace(plan, weight_bytes=memory.weight_bytes, peak_bytes=memory.peak_bytes)


def _named(
    request: Request, *, family: Family, machine: Machine, size: Mapping[str, int]
) -> tuple[tuple[Pass, ...], list[str]]:
    passes, remarks = parse_passes(request.passes), []
    for each in passes:
        each.check(family, machine)
        slow = slow_here(each, family=family, machine=machine, **size)
        remarks += [] if slow is None else [slow]
    return passes, remarks


def _chosen(
    request: Request, *, family: Family, machine: Machine, size: Mapping[str, int]
) -> tuple[tuple[Pass, ...], list[str]]:
    """The model's own, and what turbo adds to them."""
    if request.turbo == "off":
        return (), []
    own, remarks = _own(family, machine=machine, num_tokens=size["num_tokens"])
    if request.turbo is None:
        return own, remarks
    choice = turbo(request.turbo, family=family, machine=machine, **size)
    taken = {each.name for each in own}
    taken |= set(_EIGHT_BIT) if taken.intersection(_EIGHT_BIT) else set()
    added = [each.spec for each in choice.passes if each.name not in taken]
    remarks += choice.remarks if not own else ()
    return parse_passes([*(each.spec for each in own), *added]), remarks


def _own(family: Family, *, machine: Machine, num_tokens: int) -> tuple[tuple[Pass, ...], list[str]]:
    """The passes that the model was trained with, as far as they can be used here."""
    usable, remarks = [], []
    for each in parse_passes(family.defaults.passes_for(num_tokens)):
        if each.name == _IN_FILES and machine.device == "cpu":
            continue  # the layers were unpacked when they were loaded
        try:
            each.check(family, machine)
        except UnsupportedPass as error:
            remarks.append(f"{family.model} has passes of its own, of which one is left out: {error}")
        else:
            usable.append(each)
    return tuple(usable), remarks


def _missed(passes: Sequence[Pass], *, family: Family, num_tokens: int) -> list[str]:
    trained = any(text.startswith(_TUNED) for text in family.defaults.passes_for(num_tokens))
    if not trained or any(each.name == _TUNED for each in passes):
        return []
    return [f"{family.model} was trained with {_TUNED}; without it a clip is not what the model could make"]


def pass_files(passes: Sequence[Pass]) -> dict[str, str]:
    """SHA-256 of the files that belong to passes, by names for the record."""
    files = [file for each in passes for file in each.files]
    return hash_files({f"passes.{index}": file for index, file in enumerate(files)})


def can_be_taken_up(passes: Sequence[Pass]) -> bool:
    """Whether a step depends on nothing but the state before it."""
    return not any(each.remembers for each in passes)


def streaming_of(plan: Plan, *, family: Family) -> StreamBlocks | None:
    """The pass that keeps to the plan's number of blocks on the device; None where all of them stay there."""
    residency = plan.residency
    if residency is None or residency.resident_blocks is None:
        return None
    return StreamBlocks(
        resident=residency.resident_blocks,
        device=plan.device,
        source=residency.source,
        shared="transformer_2" in family.components,
    )


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
