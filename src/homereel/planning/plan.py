"""Settles a request against a model and a machine. Pure: the same three always give the same plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from homereel.core.machine import Machine
from homereel.core.plan import Footage, Plan
from homereel.core.protocols import ModelFacts
from homereel.core.request import Request
from homereel.planning.few_steps import as_student, settle_times, student_remarks
from homereel.planning.grid import check_goes_on, settle_length, settle_size
from homereel.planning.inputs import check_inputs, place_pictures
from homereel.planning.lora_advice import advised, given_sigmas
from homereel.planning.memory import plan_memory
from homereel.weights.lora.settings import LoraSettings


def plan_clip(
    request: Request,
    *,
    model: ModelFacts,
    machine: Machine,
    fresh_seed: int,
    picture_size: tuple[int, int] | None = None,
    footage: Footage | None = None,
    models_for: Callable[[str], tuple[str, ...]] = lambda _kind: (),
    lora_settings: LoraSettings | None = None,
    extend_from: int | None = None,
) -> Plan:
    """Every setting decided: the request's, else the model's own; what is off the grid is moved and told.

    `fresh_seed` is used if the request names none; `picture_size` is (width, height) of what gives the clip its
    proportions; `models_for` names the models that take a kind of input; `lora_settings` are what a LoRA for few steps
    wants, where the request does not say otherwise; `extend_from` is the number of frames that are there already.

    Raises UnsupportedInput if the model does not take what is given, or lacks what it needs, and InvalidRequest for a
    picture outside the clip, for steps that a student has no times for, or for a clip that does not go on.
    """
    check_inputs(request, model=model, models_for=models_for)
    known, grid = advised(model.defaults, lora_settings), model.grid
    defaults = as_student(known, request)
    fps = request.fps or defaults.fps
    width, height, moved = settle_size(request, grid=grid, defaults=defaults, image_size=picture_size)
    num_frames, stretched = settle_length(
        request,
        grid=grid,
        defaults=defaults,
        fps=fps,
        footage_frames=None if footage is None else footage.frames_at(fps),
        may_go_on="mask" in model.inputs,
    )
    if extend_from is not None:
        check_goes_on(extend_from, num_frames=num_frames, grid=grid)
    steps, sigmas = settle_times(
        request, model=model, defaults=defaults, lora_sigmas=given_sigmas(request, lora_settings)
    )
    shapes = model.shapes(width=width, height=height, num_frames=num_frames, dtype=machine.dtype)
    memory = plan_memory(model, machine=machine, shapes=shapes)
    remade = request.refine is not None or (footage is not None and "strength" in model.inputs)
    settled = Plan(
        model=model.model,
        family=model.name,
        width=width,
        height=height,
        num_frames=num_frames,
        fps=fps,
        steps=steps,
        guidance=request.guidance or defaults.guidance,
        guidance_2=request.guidance or defaults.guidance_2,
        shift=request.shift or defaults.shift,
        sampler=request.sampler or defaults.sampler,
        seed=fresh_seed if request.seed is None else request.seed,
        strength=(request.strength or defaults.strength) if remade else None,
        extend_from=extend_from,
        keyframes=place_pictures(request, fps=fps, num_frames=num_frames),
        num_references=len(request.references),
        sound=request.sound and model.makes_sound,
        loras=tuple(f"{use.path.name}:{use.strength:g}" for use in request.loras),
        device=machine.device,
        dtype=machine.dtype,
        num_tokens=shapes.num_tokens,
        weight_bytes=memory.weight_bytes,
        peak_bytes=memory.peak_bytes,
        seconds=None,
        sigmas=sigmas,
        adjustments=tuple(moved + stretched),
        warnings=(),
    )
    warnings = (
        *model.remarks(request),
        *_warnings(request, settled, model, picture_size),
        *student_remarks(request, settled, defaults=known),
    )
    return replace(settled, warnings=warnings)


def _warnings(request: Request, plan: Plan, model: ModelFacts, picture_size: tuple[int, int] | None) -> list[str]:
    """What will not be heeded, or will hardly look well."""
    told, defaults = [], model.defaults
    if request.strength is not None and plan.strength is None:
        told.append(f"{plan.model} has no use for strength: its mask says what is made anew")
    if plan.guidance == 1 and request.negative_prompt:
        told.append("the negative prompt is not heeded, because guidance is 1")
    if plan.fps != defaults.fps and not model.told_pace:
        told.append(
            f"{plan.model} moves as at {defaults.fps:g} fps; "
            f"at {plan.fps:g} fps motion is {plan.fps / defaults.fps:.2g} times as fast"
        )
    area = plan.width * plan.height / (defaults.width * defaults.height)
    if not 0.4 <= area <= 2.5:
        told.append(
            f"{plan.model} is at its best near {defaults.width}x{defaults.height}; "
            f"{plan.width}x{plan.height} may look wrong"
        )
    if picture_size is not None:
        proportion = (picture_size[0] / picture_size[1]) / (plan.width / plan.height)
        if not 0.97 <= proportion <= 1.03:
            told.append(f"the picture is {picture_size[0]}x{picture_size[1]}; what overhangs is cut off")
    return told
