"""How many steps a clip takes and at which times, where these are not the sampler's own: students of rCM, and times
that somebody chose one by one."""

from __future__ import annotations

from dataclasses import replace

from homereel.core.errors import InvalidRequest
from homereel.core.model import Defaults
from homereel.core.plan import Plan
from homereel.core.protocols import ModelFacts
from homereel.core.request import Request
from homereel.core.student_times import STUDENT_SAMPLERS, rcm_times

STUDENT_STEPS = 4
# Where a student starts, unless its card says otherwise.
SIGMA_MAX_FROM_WORDS, SIGMA_MAX_FROM_PICTURE = 80.0, 200.0


def as_student(defaults: Defaults, request: Request) -> Defaults:
    """The model's standard settings; those of students, if the request takes it for one that it was not known to be."""
    if request.sampler not in STUDENT_SAMPLERS or defaults.sampler in STUDENT_SAMPLERS:
        return defaults
    guidance_2 = None if defaults.guidance_2 is None else 1.0
    return replace(defaults, steps=STUDENT_STEPS, guidance=1.0, guidance_2=guidance_2, sigmas=None)


def settle_times(
    request: Request, *, model: ModelFacts, defaults: Defaults, lora_sigmas: tuple[float, ...] | None
) -> tuple[int, tuple[float, ...] | None]:
    """The number of steps, and their times, the last one 0; None for those that the sampler has for any number.

    The request decides, then a LoRA for few steps, then what the model was distilled for. Raises InvalidRequest for
    steps that a student has no times for.
    """
    if request.sigmas is not None:
        return len(request.sigmas) - 1, request.sigmas
    steps, sampler = request.steps or defaults.steps, request.sampler or defaults.sampler
    if lora_sigmas is not None:
        return steps, lora_sigmas
    if defaults.sigmas is not None and len(defaults.sigmas) == steps + 1 and _has_its_way(request, defaults):
        return steps, defaults.sigmas
    if sampler not in STUDENT_SAMPLERS:
        return steps, None
    usual = SIGMA_MAX_FROM_PICTURE if "image" in model.required else SIGMA_MAX_FROM_WORDS
    return steps, _student_times(steps, sigma_max=request.sigma_max or defaults.sigma_max or usual)


def student_remarks(request: Request, plan: Plan, *, defaults: Defaults) -> list[str]:
    """What will not be heeded, or goes against how the model was distilled; `defaults` are those of model and LoRAs."""
    told, is_student = [], defaults.sampler in STUDENT_SAMPLERS
    if plan.sampler in STUDENT_SAMPLERS and not is_student:
        told.append(
            f"{plan.model} is not known to be a student of rCM; others come out unfinished after {plan.steps} steps"
        )
    if is_student and plan.sampler not in STUDENT_SAMPLERS:
        told.append(f"{plan.model} was distilled for {defaults.sampler}; {plan.sampler} may look worse")
    if is_student and plan.guidance > 1:
        told.append(
            f"{plan.model} was distilled to need no guidance; {plan.guidance:g} doubles the time and may look overdone"
        )
    if request.shift not in (None, defaults.shift) and plan.sigmas is not None:
        told.append("shift is not heeded, because the times of this clip are given one by one")
    if request.sigma_max is not None and plan.sampler not in STUDENT_SAMPLERS:
        told.append(f"sigma_max is not heeded; it is for {' and '.join(STUDENT_SAMPLERS)}, not for {plan.sampler}")
    return told


def _has_its_way(request: Request, defaults: Defaults) -> bool:
    """Whether the request leaves the times to the model."""
    if request.shift is not None or request.sigma_max is not None:
        return False
    alike = request.sampler in STUDENT_SAMPLERS and defaults.sampler in STUDENT_SAMPLERS
    return alike or request.sampler in (None, defaults.sampler)


def _student_times(steps: int, *, sigma_max: float) -> tuple[float, ...]:
    try:
        return rcm_times(steps, sigma_max=sigma_max)
    except ValueError as error:
        raise InvalidRequest(
            f"steps: {error}; give one of these, or times of your own with --sigmas", field="steps"
        ) from None
