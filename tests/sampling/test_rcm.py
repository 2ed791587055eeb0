"""Students' times and steps against rCM's published formulas, and against what these must mean."""

from __future__ import annotations

import math

import pytest
import torch

from homereel.sampling import (
    SAMPLERS,
    SolverState,
    euler_step,
    given_schedule,
    noise_alone,
    predicted_picture,
    rcm_step,
    rcm_times,
    renoised,
)
from tests.sampling.golden_schedules import SIGMA_MAXES, STUDENT_STEPS, student_path, student_text


@pytest.mark.parametrize("sigma_max", SIGMA_MAXES)
def test_golden_times(sigma_max: float) -> None:
    assert student_text(sigma_max=sigma_max) == student_path(sigma_max=sigma_max).read_text(encoding="ascii")


@pytest.mark.parametrize(("sigma_max", "first", "first_told"), [(80, 0.98765, 988), (200, 0.99502, 996)])
def test_times_as_the_makers_print_them(sigma_max: float, first: float, first_told: float) -> None:
    times = rcm_times(4, sigma_max=sigma_max)
    assert [round(time, 5) for time in times] == [first, 0.93378, 0.85290, 0.60898, 0]
    told = given_schedule(times, dtype=torch.float64).timesteps.bfloat16()
    assert told.tolist() == [first_told, 932, 852, 608]


@pytest.mark.parametrize("steps", STUDENT_STEPS)
def test_fewer_steps_leave_out_the_last_times(steps: int) -> None:
    assert rcm_times(steps) == (*rcm_times(4)[:steps], 0)
    assert math.isclose(rcm_times(steps)[0], 80 / 81)


@pytest.mark.parametrize(("steps", "sigma_max"), [(0, 80), (5, 80), (2, 14), (1, 0)])
def test_times_that_nobody_published_are_refused(steps: int, sigma_max: float) -> None:
    with pytest.raises(ValueError, match=r"1 to 4 steps|below the next time"):
        rcm_times(steps, sigma_max=sigma_max)


def test_a_stochastic_step_is_the_picture_with_fresh_noise() -> None:
    """For a batch whose clips stand at times of their own, too, as training has it."""
    sample, velocity, noise = torch.randn(3, 2, 4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    sigma, following = torch.tensor([[[[[0.9]]]], [[[[0.6]]]]]), torch.tensor([[[[[0.5]]]], [[[[0.0]]]]])
    stepped = rcm_step(sample, velocity, sigma=sigma, next_sigma=following, noise=noise)
    torch.testing.assert_close(stepped[0], 0.5 * (sample[0] - 0.9 * velocity[0]) + 0.5 * noise[0])
    torch.testing.assert_close(stepped[1], predicted_picture(sample[1], velocity[1], sigma=0.6))


@pytest.mark.parametrize("name", ["rcm", "rcm-ode"])
def test_the_samplers_take_the_steps_of_training(name: str) -> None:
    sampler, generator = SAMPLERS[name], torch.Generator().manual_seed(1)
    schedule = sampler.make_schedule(4, shift=3.0)
    assert schedule.sigmas.dtype == sampler.dtype == torch.float64
    sample, velocity, noise = torch.randn(3, 50, generator=generator, dtype=torch.float64)
    times = schedule.sigmas.tolist()
    for step in range(4):
        found = sampler.step(SolverState(sample, step), velocity, schedule=schedule).sample
        if sampler.fresh_noise:
            found = renoised(found, noise, sigma=times[step + 1])
        here = {"sigma": times[step], "next_sigma": times[step + 1]}
        assert torch.equal(found, rcm_step(sample, velocity, **here, noise=noise if sampler.fresh_noise else None))


def test_a_perfect_student_is_there_after_any_step() -> None:
    """From x = (1 - sigma) picture + sigma noise with velocity noise - picture, each step sees the picture."""
    picture, noise, fresh = torch.randn(3, 50, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    times = rcm_times(4)
    start = renoised(picture, noise, sigma=times[1])
    stepped = rcm_step(start, noise - picture, sigma=times[1], next_sigma=times[2], noise=fresh)
    torch.testing.assert_close(stepped, renoised(picture, fresh, sigma=times[2]), atol=1e-14, rtol=0)
    straight = rcm_step(start, noise - picture, sigma=times[1], next_sigma=times[2])
    torch.testing.assert_close(straight, renoised(picture, noise, sigma=times[2]), atol=1e-14, rtol=0)


def test_steps_can_be_learnt_through() -> None:
    sample, velocity, noise = torch.randn(3, 5, generator=torch.Generator().manual_seed(3))
    velocity.requires_grad_()
    rcm_step(sample, velocity, sigma=0.9, next_sigma=0.5, noise=noise).sum().backward()
    assert velocity.grad is not None
    torch.testing.assert_close(velocity.grad, torch.full((5,), -0.45))


def test_clips_start_from_a_share_of_noise_but_teachers_from_all_of_it() -> None:
    noise = torch.randn(5, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    assert torch.equal(noise_alone(noise, sigma=rcm_times(4)[0]), 80 / 81 * noise)
    for name in ("unipc", "euler"):
        first = float(SAMPLERS[name].make_schedule(4, shift=3.0).sigmas[0])
        assert noise_alone(noise, sigma=first) is noise


def test_other_samplers_draw_nothing_and_stay_in_float32() -> None:
    for name in ("unipc", "euler"):
        sampler = SAMPLERS[name]
        assert (sampler.dtype, sampler.told, sampler.fresh_noise) == (torch.float32, None, False)
    assert SAMPLERS["rcm-ode"].step is euler_step
