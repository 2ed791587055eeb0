"""Settles who runs against whom: the teacher in diffusers' pipeline, a student (or the teacher itself) in homereel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from homereel.core.errors import InvalidRequest
from homereel.core.machine import Machine
from homereel.core.plan import Plan
from homereel.core.request import Request
from homereel.core.student_times import STUDENT_SAMPLERS
from homereel.engine.generate import make_plan
from homereel.engine.session import Session
from homereel.models.catalogue import CATALOGUE
from homereel.models.registry import model_facts
from homereel.models.shared_facts import FolderFacts
from homereel.models.students import student_of
from homereel.weights.word_store import WordStore

PIPELINE = "WanPipeline"
BASELINE_STEPS = 50
STAND_IN_STEPS = 4
EXACT = "safe"
"""What homereel's side does unless told otherwise: all that makes a clip faster and leaves it as it is."""
# Both sides stay loaded side by side while their weights take at most this share of the memory that computes.
_SHARED_ROOM = 0.5
_EXAM_ROOM = 0.1  # what clips need comes on top
# Above this share diffusers is told to keep only the part in the GPU that computes.
_GPU_ROOM = 0.8


@dataclass(frozen=True)
class Wish:
    """What was asked for; None is as the models have it."""

    model: str
    turbo_model: str | None = None
    steps: int | None = None
    baseline_steps: int = BASELINE_STEPS
    baseline_dtype: str | None = None
    width: int | None = None
    height: int | None = None
    num_frames: int | None = None
    passes: str | None = None
    turbo: str | None = None


@dataclass(frozen=True)
class Contest:
    """Two settled plans of clips of one size. `baseline` is what the process of diffusers is told; `turbo` is the
    request of the other one."""

    baseline: dict[str, Any]
    baseline_plan: Plan
    turbo: Request
    turbo_plan: Plan
    together: bool
    remarks: tuple[str, ...]
    exam_processes: int
    """So many make an exam's clips of a side, with a thread each; one with all threads where it is 1."""


def settle_contest(wish: Wish, *, prompt: str) -> Contest:
    """Raises InvalidRequest for a model that diffusers' WanPipeline does not run, and what `make_plan` raises."""
    teacher = _teacher(wish.model)
    student = wish.turbo_model or student_of(wish.model)
    size = {"width": wish.width, "height": wish.height, "num_frames": wish.num_frames}
    with Session(words=WordStore.none()) as session:
        base_request = Request.parse(
            _given({"prompt": prompt, "model": wish.model, "steps": wish.baseline_steps, **size, "turbo": "off"})
        )
        base = make_plan(base_request, session=session)
        base = replace(base, dtype=wish.baseline_dtype or base.dtype)
        turbo_request = _turbo_request(wish, base, prompt=prompt, student=student)
        turbo = make_plan(turbo_request, session=session)
        machine = session.machine
    _check_alike(base, turbo)
    room = machine.vram_bytes or machine.ram_bytes
    told = {
        "folder": str(teacher.folder.path),
        **{name: getattr(base, name) for name in ("width", "height", "num_frames", "fps", "steps", "guidance")},
        "guidance_2": base.guidance_2,
        "negative_prompt": base_request.negative_prompt,
        "max_tokens": teacher.max_tokens,
        "dtype": base.dtype,
        "device": base.device,
        "num_threads": machine.num_threads,
        "offload": machine.device == "cuda" and base.weight_bytes > _GPU_ROOM * room,
    }
    remarks = [] if student else [_no_student(teacher.model, turbo)]
    remarks += [*base.adjustments, *(f"turbo: {remark}" for remark in (*turbo.adjustments, *turbo.warnings))]
    return Contest(
        baseline=told,
        baseline_plan=base,
        turbo=turbo_request,
        turbo_plan=turbo,
        together=base.weight_bytes + turbo.weight_bytes <= _SHARED_ROOM * room,
        remarks=tuple(remarks),
        exam_processes=_exam_processes(machine, weight_bytes=max(base.weight_bytes, turbo.weight_bytes)),
    )


def _exam_processes(machine: Machine, *, weight_bytes: int) -> int:
    """One a thread on a CPU, if each may have the weights beside the two sides."""
    fits = (machine.num_threads + 2) * weight_bytes <= _EXAM_ROOM * machine.ram_bytes
    return machine.num_threads if machine.device == "cpu" and fits else 1


def _teacher(model: str) -> FolderFacts:
    """Raises InvalidRequest unless diffusers' WanPipeline can run it, and UnknownModel or WeightsError."""
    facts = model_facts(model)
    kind = str(facts.folder.index().get("_class_name", "")) if isinstance(facts, FolderFacts) else facts.name
    if not isinstance(facts, FolderFacts) or kind != PIPELINE:
        raise InvalidRequest(
            f"{model} is a {kind}; bench compares with diffusers' {PIPELINE}, which runs text-to-video Wans: "
            f"{', '.join(_possible())}, or a folder of one. `homereel generate --json` tells the seconds of any model",
            field="model",
        )
    if any(tensor.dtype == "I8" for part in facts.components for tensor in facts.tensors(part).values()):
        raise InvalidRequest(
            f"{model} holds layers in 8 bits, whose scales diffusers would drop; "
            "give its teacher as --model and this one as --turbo-model",
            field="model",
        )
    return facts


def _possible() -> list[str]:
    """Teachers alone; VACE has a pipeline of its own."""
    able = [card for card in CATALOGUE if card.supported and card.family == "wan" and card.tasks[0] == "text-to-video"]
    teachers = [card for card in able if card.defaults.sampler not in STUDENT_SAMPLERS]
    return [card.id for card in teachers if "control-to-video" not in card.tasks]


def _turbo_request(wish: Wish, base: Plan, *, prompt: str, student: str | None) -> Request:
    """The model itself stands in for a student that it has not: fewer steps, no guidance."""
    steps, guidance = wish.steps, None
    if student is None:
        steps, guidance = wish.steps or STAND_IN_STEPS, 1.0
    asked = {
        "prompt": prompt,
        "model": student or wish.model,
        **{name: getattr(base, name) for name in ("width", "height", "num_frames", "fps")},
        "steps": steps,
        "guidance": guidance,
        "passes": wish.passes,
        "turbo": wish.turbo or (EXACT if wish.passes is None else None),
    }
    return Request.parse(_given(asked))


def _no_student(model: str, plan: Plan) -> str:
    return (
        f"{model} has no student here: it stands in for one itself, with {plan.steps} steps and no guidance; "
        "its clips look worse than a student's would (--turbo-model names one)"
    )


def _check_alike(base: Plan, turbo: Plan) -> None:
    for name in ("width", "height", "num_frames"):
        ours, theirs = getattr(turbo, name), getattr(base, name)
        if ours != theirs:
            raise InvalidRequest(
                f"{name} would be {theirs} for {base.model} and {ours} for {turbo.model}; only clips of one size "
                "can be compared: give a --size and --frames that both can make",
                field=name,
            )


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
