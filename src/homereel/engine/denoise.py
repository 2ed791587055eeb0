"""The denoising loop: noise to latents, stage by stage and step by step, for any family and any sampler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from homereel.core.errors import GenerationFailed
from homereel.core.model import Stage
from homereel.core.plan import Plan
from homereel.core.protocols import Component, Conditions, Family, StepTime, Use
from homereel.engine.state import DenoiseState
from homereel.sampling import SAMPLERS, Sampler, Schedule, SolverState, given_schedule, predicted_picture, renoised


@dataclass(frozen=True)
class StepDone:
    """Told after each step: the state to go on from, the steps of all stages, the clean latents as seen from here."""

    state: DenoiseState
    steps_done: int
    num_steps: int
    picture: Callable[[], Tensor]


@dataclass(frozen=True)
class Loop:
    """One clip's way through the denoiser.

    `component` gives a loaded denoiser by name; `use` lends any other part; `stop_point`, called after every pass
    through the network, raises Stopped if a stop was asked for.
    """

    plan: Plan
    family: Family
    conditions: Conditions
    fingerprint: str
    component: Callable[[str], Component]
    use: Use
    stop_point: Callable[[], None]
    on_step: Callable[[StepDone], None]

    def run(self, resume: DenoiseState | None) -> Tensor:
        """From the seed, or from a saved state, to what the last stage leaves.

        Raises GenerationFailed as soon as a number is not finite.
        """
        generator = torch.Generator("cpu").manual_seed(self.plan.seed)
        if resume is not None:
            generator.set_state(resume.generator)
        stages = self.family.stages(self.plan)
        index, done = (0, None) if resume is None else (resume.stage, resume.done)
        solver = None if resume is None else resume.solver
        while index < len(stages):
            if solver is None:
                solver = self._begin(stages[index], index, done=done, generator=generator)
            state = DenoiseState(solver, generator.get_state(), self.fingerprint, stage=index, done=done)
            latents = self._run_stage(stages[index], self._on_device(state), stages=stages, generator=generator)
            done = self.family.finish(index, latents, plan=self.plan, conditions=self.conditions, done=done)
            index, solver = index + 1, None
        assert done is not None, "a clip has a stage"
        return done

    def _begin(self, stage: Stage, index: int, *, done: Tensor | None, generator: torch.Generator) -> SolverState:
        dtype = SAMPLERS[self.plan.sampler].dtype
        noise = [_draw(shape, generator=generator).to(dtype) for shape in stage.noise]
        sample = self.family.begin(
            index,
            noise,
            plan=self.plan,
            conditions=self.conditions,
            done=done,
            sigma=float(stage_schedule(stage, self.plan).sigmas[0]),
            use=self.use,
        )
        return SolverState(sample=sample)

    def _run_stage(
        self, stage: Stage, state: DenoiseState, *, stages: tuple[Stage, ...], generator: torch.Generator
    ) -> Tensor:
        sampler, schedule = SAMPLERS[self.plan.sampler], stage_schedule(stage, self.plan)
        before_steps = sum(earlier.steps_to_do for earlier in stages[: state.stage])
        num_steps = sum(each.steps_to_do for each in stages)
        solver = state.solver
        while solver.step < schedule.num_steps:
            velocity = self._velocity(solver.sample, schedule=schedule, step=solver.step, stage=state.stage)
            velocity = velocity.to(sampler.dtype)
            before, solver = solver, sampler.step(solver, velocity, schedule=schedule)
            if sampler.fresh_noise and solver.step < schedule.num_steps:
                solver = _with_noise(solver, schedule=schedule, generator=generator)
            if not bool(torch.isfinite(solver.sample.sum(dtype=torch.float64))):  # one number that is not shows in it
                raise GenerationFailed(
                    f"step {before_steps + solver.step} of {num_steps} gave numbers that are not finite; "
                    "try another seed or lower guidance"
                )
            self.on_step(
                StepDone(
                    state=replace(state, solver=solver, generator=generator.get_state()),
                    steps_done=before_steps + solver.step,
                    num_steps=num_steps,
                    picture=_picture_of(before, velocity, schedule),
                )
            )
        return solver.sample.float()

    def _velocity(self, latents: Tensor, *, schedule: Schedule, step: int, stage: int) -> Tensor:
        timestep = schedule.timesteps[step]
        later = schedule.timesteps[step + 1 :]
        velocity: Tensor = self.family.velocity(
            self.component(self.family.denoiser(float(timestep))),
            latents,
            time=StepTime(
                stage=stage,
                step=step,
                timestep=_told(timestep, sampler=SAMPLERS[self.plan.sampler]),
                next_timestep=float(later[0]) if len(later) else 0.0,
                sigma=float(schedule.sigmas[step]),
            ),
            plan=self.plan,
            conditions=self.conditions,
            on_pass=self.stop_point,
        )
        return velocity

    def _on_device(self, state: DenoiseState) -> DenoiseState:
        def move(tensor: Any) -> Any:
            return None if tensor is None else tensor.to(self.plan.device)

        solver = state.solver
        moved = replace(solver, sample=move(solver.sample), history=tuple(move(past) for past in solver.history))
        return replace(state, solver=moved, done=move(state.done))


def stage_schedule(stage: Stage, plan: Plan) -> Schedule:
    """The times of one stage: its own sigmas, the plan's, or the sampler's, without the steps that are left out."""
    given = stage.sigmas or (plan.sigmas if plan.sigmas and len(plan.sigmas) == stage.num_steps + 1 else None)
    sampler = SAMPLERS[plan.sampler]
    if given is not None:
        schedule = given_schedule(given, dtype=sampler.dtype)
    else:
        schedule = sampler.make_schedule(stage.num_steps, shift=plan.shift)
    first = stage.first_step
    return Schedule(timesteps=schedule.timesteps[first:], sigmas=schedule.sigmas[first:])


def _draw(shape: Sequence[int], *, generator: torch.Generator) -> Tensor:
    """Noise is drawn on the CPU so that it is the same on every device."""
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32)


def _with_noise(solver: SolverState, *, schedule: Schedule, generator: torch.Generator) -> SolverState:
    """What a stochastic step ends with: of the picture that it found, and fresh noise, the latents of the next time."""
    noise = _draw(solver.sample.shape, generator=generator).to(solver.sample)
    return replace(solver, sample=renoised(solver.sample, noise, sigma=schedule.sigmas[solver.step].item()))


def _told(timestep: Tensor, *, sampler: Sampler) -> Tensor:
    """The time as the network was told it in training. Which expert computes is decided before it is rounded."""
    return timestep if sampler.told is None else timestep.to(sampler.told).float()


def _picture_of(before: SolverState, velocity: Tensor, schedule: Schedule) -> Callable[[], Tensor]:
    sigma = float(schedule.sigmas[before.step])
    return lambda: predicted_picture(before.sample, velocity, sigma=sigma).float()
