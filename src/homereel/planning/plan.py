"""Settles a request against a model and a machine. Pure: the same three always give the same plan."""

from __future__ import annotations

from homereel.core.errors import UnsupportedInput
from homereel.core.machine import Machine
from homereel.core.model import Defaults
from homereel.core.plan import Plan
from homereel.core.protocols import ModelFacts
from homereel.core.request import Request
from homereel.planning.grid import settle_length, settle_size
from homereel.planning.memory import plan_memory


def plan_clip(
    request: Request,
    *,
    model: ModelFacts,
    machine: Machine,
    fresh_seed: int,
    image_size: tuple[int, int] | None = None,
    image_models: tuple[str, ...] = (),
) -> Plan:
    """Every setting decided: the request's, else the model's own; what is off the grid is moved and told.

    `fresh_seed` is used if the request names none; `image_size` is (width, height) of the first frame;
    `image_models` are named if this model takes no picture. Raises UnsupportedInput then.
    """
    if request.image is not None and "image" not in model.inputs:
        raise UnsupportedInput(
            f"{model.model} takes no picture; models that do: {', '.join(image_models) or 'none known'}",
            field="image",
        )
    defaults, grid = model.defaults, model.grid
    fps = request.fps or defaults.fps
    width, height, moved = settle_size(request, grid=grid, defaults=defaults, image_size=image_size)
    num_frames, stretched = settle_length(request, grid=grid, defaults=defaults, fps=fps)
    guidance = request.guidance or defaults.guidance
    shapes = model.shapes(width=width, height=height, num_frames=num_frames, dtype=machine.dtype)
    memory = plan_memory(model, machine=machine, shapes=shapes)
    settled = Plan(
        model=model.model,
        family=model.name,
        width=width,
        height=height,
        num_frames=num_frames,
        fps=fps,
        steps=request.steps or defaults.steps,
        guidance=guidance,
        shift=request.shift or defaults.shift,
        sampler=request.sampler or defaults.sampler,
        seed=fresh_seed if request.seed is None else request.seed,
        device=machine.device,
        dtype=machine.dtype,
        num_tokens=shapes.num_tokens,
        weight_bytes=memory.weight_bytes,
        peak_bytes=memory.peak_bytes,
        seconds=None,
        adjustments=tuple(moved + stretched),
        warnings=(),
    )
    warnings = (*model.remarks(request), *_warnings(request, settled, defaults, image_size))
    return Plan(**{**settled.__dict__, "warnings": warnings})


def _warnings(request: Request, plan: Plan, defaults: Defaults, image_size: tuple[int, int] | None) -> list[str]:
    """What will not be heeded, or will hardly look well."""
    told = []
    if plan.guidance == 1 and request.negative_prompt:
        told.append("the negative prompt is not heeded, because guidance is 1")
    if plan.fps != defaults.fps:
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
    if image_size is not None:
        proportion = (image_size[0] / image_size[1]) / (plan.width / plan.height)
        if not 0.97 <= proportion <= 1.03:
            told.append(f"the picture is {image_size[0]}x{image_size[1]}; what overhangs is cut off")
    return told
