"""The denoising loop: noise to latents, one guided step after another, for any family and any sampler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from homereel.core.errors import GenerationFailed
from homereel.core.plan import Plan
from homereel.core.protocols import Component, Conditions, Family
from homereel.engine.state import DenoiseState
from homereel.sampling import SAMPLERS, Schedule, classifier_free_guidance, predicted_picture


@dataclass(frozen=True)
class Guides:
    """What steers the denoiser: the prompt, and with guidance what it is compared with."""

    prompt: Conditions
    negative: Conditions | None


@dataclass(frozen=True)
class StepDone:
    """Told after each step: the state to go on from, and the clean latents as seen from there."""

    state: DenoiseState
    picture: Callable[[], Tensor]


def denoise(
    state: DenoiseState,
    *,
    plan: Plan,
    family: Family,
    guides: Guides,
    component: Callable[[str], Component],
    stop_point: Callable[[], None],
    on_step: Callable[[StepDone], None],
) -> Tensor:
    """From `state` to finished latents.

    `component` gives a loaded part by name; `stop_point`, called after every pass through the denoiser,
    raises Stopped if a stop was asked for. Raises GenerationFailed as soon as a number is not finite.
    """
    sampler = SAMPLERS[plan.sampler]
    schedule = sampler.make_schedule(plan.steps, shift=plan.shift)
    solver = _on_device(state, plan.device)
    while solver.step < schedule.num_steps:
        velocity = _guided_velocity(
            solver.sample,
            timestep=schedule.timesteps[solver.step],
            plan=plan,
            family=family,
            guides=guides,
            component=component,
            stop_point=stop_point,
        )
        before, solver = solver, sampler.step(solver, velocity, schedule=schedule)
        if not bool(torch.isfinite(solver.sample).all()):
            raise GenerationFailed(
                f"step {solver.step} of {plan.steps} gave numbers that are not finite; "
                "try another seed or lower guidance"
            )
        on_step(StepDone(replace(state, solver=solver), _picture_of(before.sample, velocity, schedule, before.step)))
    finished: Tensor = family.settle(solver.sample, conditions=guides.prompt)
    return finished


def _guided_velocity(
    latents: Tensor,
    *,
    timestep: Tensor,
    plan: Plan,
    family: Family,
    guides: Guides,
    component: Callable[[str], Component],
    stop_point: Callable[[], None],
) -> Tensor:
    """Two passes, or one without guidance.

    One batch of both is no faster (116 ms against 2 x 63 on one CPU thread), needs twice the memory, and a
    stop would have to wait for it.
    """
    denoiser = component(family.denoiser(float(timestep)))

    def velocity(conditions: Conditions) -> Any:
        flow = family.velocity(denoiser, latents, timestep=timestep, conditions=conditions)
        stop_point()
        return flow

    wanted: Tensor = velocity(guides.prompt)
    if guides.negative is None:
        return wanted
    return classifier_free_guidance(wanted, velocity(guides.negative), scale=plan.guidance)


def _on_device(state: DenoiseState, device: str) -> Any:
    solver = state.solver
    return replace(solver, sample=solver.sample.to(device), history=tuple(past.to(device) for past in solver.history))


def _picture_of(sample: Tensor, velocity: Tensor, schedule: Schedule, step: int) -> Callable[[], Tensor]:
    sigma = float(schedule.sigmas[step])
    return lambda: predicted_picture(sample, velocity, sigma=sigma)
