"""Our schedules and steps against diffusers' schedulers, which every model was released with."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from homereel.sampling import SAMPLERS, SolverState, classifier_free_guidance, predicted_picture
from tests.sampling.golden_schedules import SHIFTS, STEPS, TEACHERS, golden_path, golden_text

CASES = [(name, steps, shift) for name in TEACHERS for steps in STEPS for shift in SHIFTS]


def oracle(name: str, *, shift: float) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

    if name == "euler":
        return FlowMatchEulerDiscreteScheduler(shift=shift)
    return UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift, solver_order=2
    )


def network(sample: Tensor, timestep: Tensor) -> Tensor:
    """Stands for a model: bends with the sample and the time, so that wrong steps cannot cancel out."""
    return torch.tanh(1.3 * sample + 0.4 * timestep / 1000) - 0.3 * sample


def distance_from_oracle(name: str, steps: int, shift: float, *, dtype: torch.dtype) -> float:
    """The largest difference over a whole run, as a share of the largest value."""
    schedule, theirs = SAMPLERS[name].make_schedule(steps, shift=shift), oracle(name, shift=shift)
    theirs.set_timesteps(steps)
    if dtype == torch.float64:
        theirs.sigmas = theirs.sigmas.double()
    noise = torch.randn(1, 4, 3, 6, 6, generator=torch.Generator().manual_seed(steps)).to(dtype)
    state, sample, worst = SolverState(sample=noise), noise, 0.0
    for index, timestep in enumerate(theirs.timesteps):
        velocity = network(state.sample, schedule.timesteps[index])
        state = SAMPLERS[name].step(state, velocity, schedule=schedule)
        sample = theirs.step(network(sample, timestep), timestep, sample, return_dict=False)[0]
        worst = max(worst, float((state.sample - sample).abs().max() / sample.abs().max()))
    assert state.step == steps
    return worst


@pytest.mark.parametrize(("name", "steps", "shift"), CASES)
def test_schedule_equals_diffusers(name: str, steps: int, shift: float) -> None:
    schedule, theirs = SAMPLERS[name].make_schedule(steps, shift=shift), oracle(name, shift=shift)
    theirs.set_timesteps(steps)
    assert schedule.timesteps.dtype == theirs.timesteps.dtype
    torch.testing.assert_close(schedule.timesteps, theirs.timesteps, atol=1e-6, rtol=0)
    torch.testing.assert_close(schedule.sigmas, theirs.sigmas, atol=1e-6, rtol=0)
    assert schedule.num_steps == steps


@pytest.mark.parametrize(("name", "steps", "shift"), CASES)
def test_steps_equal_diffusers(name: str, steps: int, shift: float) -> None:
    """1e-6 of the largest value: a few units in the last place of float32 after up to 50 steps."""
    assert distance_from_oracle(name, steps, shift, dtype=torch.float32) <= 1e-6


@pytest.mark.parametrize("steps", STEPS)
def test_unipc_is_the_same_formula_as_diffusers(steps: int) -> None:
    """In float64 nothing but rounding may be left: what float32 shows above is rounding, not another method."""
    assert distance_from_oracle("unipc", steps, 3.0, dtype=torch.float64) <= 1e-13


def test_the_two_schedules_are_not_interchangeable() -> None:
    unipc = SAMPLERS["unipc"].make_schedule(4, shift=3.0).timesteps.tolist()
    euler = SAMPLERS["euler"].make_schedule(4, shift=3.0).timesteps
    assert unipc == [999, 900, 750, 500]
    assert euler.round().long().tolist() == [1000, 858, 602, 9]


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("name", TEACHERS)
def test_golden_schedules(name: str, shift: float) -> None:
    assert golden_text(name, shift=shift) == golden_path(name, shift=shift).read_text(encoding="ascii")


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_step_leaves_its_state_as_it_was(name: str) -> None:
    """A solver's whole memory is in its state: any step can be taken twice, to the same bits."""
    schedule = SAMPLERS[name].make_schedule(4, shift=2.0)
    state = SolverState(sample=torch.randn(2, 3, generator=torch.Generator().manual_seed(0)))
    for index in range(4):
        velocity = network(state.sample, schedule.timesteps[index])
        before = [state.sample.clone(), *(past.clone() for past in state.history)]
        first = SAMPLERS[name].step(state, velocity, schedule=schedule)
        second = SAMPLERS[name].step(state, velocity, schedule=schedule)
        assert torch.equal(first.sample, second.sample)
        assert all(map(torch.equal, before, [state.sample, *state.history]))
        state = first


@pytest.mark.parametrize("name", TEACHERS)
def test_a_straight_flow_is_followed_to_its_end(name: str) -> None:
    """With the velocity of a straight path every sampler must land on the picture, whatever the steps."""
    picture, noise = torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(1))
    schedule = SAMPLERS[name].make_schedule(7, shift=3.0)
    start = float(schedule.sigmas[0])
    state = SolverState(sample=(1 - start) * picture + start * noise)
    for _ in range(7):
        state = SAMPLERS[name].step(state, noise - picture, schedule=schedule)
    torch.testing.assert_close(state.sample, picture, atol=1e-5, rtol=0)


def test_guidance_and_predicted_picture() -> None:
    cond, uncond = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 3.0])
    assert torch.equal(classifier_free_guidance(cond, uncond, scale=1.0), cond)
    assert classifier_free_guidance(cond, uncond, scale=4.0).tolist() == [2.5, -1.0]
    assert predicted_picture(cond, uncond, sigma=0.5).tolist() == [0.75, 0.5]
