"""Each loss against what it must be by an independent reckoning."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from homereel.sampling import SolverState, euler_step, given_schedule, rcm_times
from homereel.training.distillation import losses
from homereel.training.distillation.continuous import continuous_loss, trig_flow
from homereel.training.distillation.flow import TOLD, Conditions, Noisy, Teacher, picture, velocity
from homereel.training.distillation.judge import Judge, deceive_loss, judge_loss
from tests.training.distillation.toy import SHAPE, Gaussian, normal, tiny_wan, words

TIMES = torch.tensor([0.3, 0.9])


def clips(seed: int) -> Tensor:
    return normal(2, *SHAPE, seed=seed)


def huber(error: Tensor) -> Tensor:
    norms = [float(each.square().mean()) for each in error]
    return torch.tensor([(norm + 1e-4) ** 0.5 - 0.01 for norm in norms]).mean()


def test_guidance_goes_beyond_the_prompt() -> None:
    network, conditions, empty = tiny_wan(), words(2), normal(5, 16, seed=9)
    guided = Teacher(network, empty, 3.0).velocity(clips(0), TIMES, conditions)
    with torch.no_grad():
        wanted = network(clips(0), TIMES * 1000, conditions.text_BLD, return_dict=False)[0]
        without = network(clips(0), TIMES * 1000, empty.expand(2, 5, 16), return_dict=False)[0]
    torch.testing.assert_close(guided, 3 * wanted - 2 * without)
    assert torch.equal(Teacher(network, empty, 1.0).velocity(clips(0), TIMES, conditions), wanted)


def test_a_known_first_frame_is_where_its_flow_leads() -> None:
    seen: dict[str, Tensor] = {}
    inner = Gaussian()

    def network(x: Tensor, timestep: Tensor, text: Tensor, **_: Any) -> tuple[Tensor]:
        seen.update(x=x, timestep=timestep)
        flow: tuple[Tensor] = inner(x, timestep[:, -1], text)
        return flow

    network.config = inner.config  # type: ignore[attr-defined]
    first = normal(2, 4, 1, 4, 4, seed=5)
    conditions = Conditions(words(2).text_BLD, first)
    found = picture(network, clips(0), TIMES, conditions)
    torch.testing.assert_close(found[:, :, :1], first)
    assert torch.equal(seen["x"][:, :, :1], first)
    assert torch.equal(seen["x"][:, :, 1:], clips(0)[:, :, 1:])
    torch.testing.assert_close(seen["timestep"], torch.tensor([[0.0] * 4 + [300.0] * 8, [0.0] * 4 + [900.0] * 8]))


def test_students_are_told_short_times() -> None:
    told: list[Tensor] = []

    def network(x: Tensor, timestep: Tensor, text: Tensor, **_: Any) -> tuple[Tensor]:
        told.append(timestep)
        return (x,)

    times = torch.tensor(rcm_times(4)[:-1])
    velocity(network, normal(4, *SHAPE), times, words(4), told=TOLD)
    assert told[0].tolist() == [988, 932, 852, 608]


def test_a_way_is_learnt_from_any_point_to_its_end() -> None:
    student, x, end = Gaussian(), clips(0), clips(1)
    loss = losses.trajectory_loss(student, x, torch.tensor([0.25, 0.5]), words(2), end=end)
    flows = [student(x[k : k + 1], torch.tensor([time]), torch.zeros(1))[0] for k, time in enumerate((250.0, 500.0))]
    guesses = torch.cat([x[:1] - 0.25 * flows[0], x[1:] - 0.5 * flows[1]])
    torch.testing.assert_close(loss, huber((guesses - end).detach()))


def test_consistency_compares_with_one_step_of_the_teacher() -> None:
    """At the last time the target is what the teacher itself sees; gradients do not flow through targets."""
    student, teacher = Gaussian(0.0, 1.0), Teacher(Gaussian(), torch.zeros(5, 16), 1.0)
    clip, noise, time = clips(0), clips(1), torch.tensor([0.5, 0.25])
    loss = losses.consistency_loss(student, Noisy(clip, noise, time, words(2)), teacher=teacher, gap=0.25)
    x = torch.stack([(1 - s) * c + s * n for s, c, n in zip((0.5, 0.25), clip, noise, strict=True)])
    schedule = given_schedule([0.5, 0.25, 0.0])
    flow = teacher.network(x[:1], torch.tensor([500.0]), None)[0]
    nearer = euler_step(SolverState(sample=x[:1]), flow, schedule=schedule).sample
    later = nearer - 0.25 * student(nearer, torch.tensor([250.0]), None)[0]
    last = x[1:] - 0.25 * teacher.network(x[1:], torch.tensor([250.0]), None)[0]
    flows = torch.cat([student(x[:1], torch.tensor([500.0]), None)[0], student(x[1:], torch.tensor([250.0]), None)[0]])
    guess = x - time.view(-1, 1, 1, 1, 1) * flows
    torch.testing.assert_close(loss, huber((guess - torch.cat([later, last])).detach()))
    assert not torch.equal(later, last)


def test_the_exact_network_is_consistent_with_itself() -> None:
    """A student that says where the teacher's way ends loses little but the step's own error."""

    class Exact(Gaussian):
        """Straight to the end of the way of a Gaussian: x keeps its place among its likes."""

        def forward(self, x: Tensor, timestep: Tensor, text: Tensor, return_dict: bool = False) -> tuple[Tensor]:
            s = (timestep / 1000).view(-1, 1, 1, 1, 1)
            variance = self.log_deviation.exp() ** 2
            spread = (s**2 + (1 - s) ** 2 * variance).sqrt()
            end = self.mean + variance.sqrt() * (x - (1 - s) * self.mean) / spread
            return ((x - end) / s.clamp(min=1e-6),)

    teacher = Teacher(Gaussian(), torch.zeros(5, 16), 1.0)
    given = Noisy(normal(16, *SHAPE), normal(16, *SHAPE, seed=1), torch.full((16,), 0.6), words(16))
    exact = losses.consistency_loss(Exact(), given, teacher=teacher, gap=0.01)
    far = losses.consistency_loss(Gaussian(), given, teacher=teacher, gap=0.01)
    assert exact < 0.1 * far


def test_a_rollout_takes_the_samplers_steps() -> None:
    student, times = tiny_wan(), rcm_times(3)[:-1]
    noises, conditions = [clips(seed) for seed in range(3)], words(2)
    made = losses.rollout(student, noises, times, conditions)
    x = times[0] * noises[0]
    with torch.no_grad():
        for step, time in enumerate(times):
            told = torch.tensor([float(torch.tensor(time * 1000).bfloat16())] * 2)
            clip = x - time * student(x, told, conditions.text_BLD, return_dict=False)[0]
            if step < 2:
                x = (1 - times[step + 1]) * clip + times[step + 1] * noises[step + 1]
    torch.testing.assert_close(made.detach(), clip)
    assert made.requires_grad


def test_a_rollout_with_one_noise_goes_straight_along_the_flow() -> None:
    student, times = tiny_wan(), rcm_times(3)
    noise, conditions = clips(0), words(2)
    made = losses.rollout(student, [noise], times[:-1], conditions)
    x = times[0] * noise
    with torch.no_grad():
        for time, after in itertools.pairwise(times):
            told = torch.tensor([float(torch.tensor(time * 1000).bfloat16())] * 2)
            x = x - (time - after) * student(x, told, conditions.text_BLD, return_dict=False)[0]
    torch.testing.assert_close(made.detach(), x)
    assert made.requires_grad


def test_on_a_straight_line_the_right_answer_is_its_end() -> None:
    """What knows noise and clip of each line loses nothing, at the start too, where x holds nothing of the clip."""
    clip, noise, start = clips(0), clips(1), 0.98765
    for time in (start, 0.6):
        asked: list[Tensor] = []

        class Knows(nn.Module):
            def forward(self, x: Tensor, timestep: Tensor, text: Tensor, return_dict: bool = False) -> tuple[Tensor]:
                asked.append(x)  # noqa: B023
                return ((x - clip) / time,)  # noqa: B023

        way = Noisy(clip, noise, torch.full((2,), time), words(2))
        assert losses.straight_loss(Knows(), way, start=start).item() < 1e-5
        expected = time * noise if time == start else (1 - time) * clip + time * noise
        torch.testing.assert_close(asked[0], expected)
        assert losses.straight_loss(Gaussian(), way, start=start).item() > 0.1


def test_matching_pulls_from_what_the_critic_sees_to_what_the_teacher_sees() -> None:
    teacher, critic = Teacher(Gaussian(1.0, 0.5), torch.zeros(5, 16), 1.0), Gaussian(0.0, 0.5)
    clip, noise, time = clips(0).requires_grad_(), clips(1), torch.tensor([0.4, 0.8])
    losses.match_loss(Noisy(clip, noise, time, words(2)), teacher=teacher, critic=critic).backward()
    for k, s in enumerate((0.4, 0.8)):
        c, n = clip[k].detach(), noise[k]
        x = (1 - s) * c + s * n
        pull = (1 - s) / (s**2 / 0.25 + (1 - s) ** 2)  # of a normal prior with deviation 0.5, towards x
        seen_by = {mean: mean + pull * (x - (1 - s) * mean) for mean in (0.0, 1.0)}
        expected = (seen_by[0.0] - seen_by[1.0]) / (c - seen_by[1.0]).abs().mean() / clip.numel()
        assert clip.grad is not None
        torch.testing.assert_close(clip.grad[k], expected, rtol=1e-4, atol=1e-7)
    assert all(p.grad is None for p in critic.parameters())


def test_the_critic_is_graded_by_angle() -> None:
    critic, clip, noise, time = Gaussian(), clips(0), clips(1), torch.tensor([0.4, 0.8])
    loss = losses.critic_loss(critic, Noisy(clip, noise, time, words(2)))
    total = 0.0
    for k, s in enumerate((0.4, 0.8)):
        angle = torch.atan(torch.tensor(s / (1 - s)))
        x = (1 - s) * clip[k] + s * noise[k]
        with torch.no_grad():
            seen = x - s * critic(x[None], torch.tensor([1000 * s]), None)[0][0]
        total += float(((clip[k] - seen) ** 2).mean() / torch.sin(angle) ** 2) / 2
    assert loss.item() == pytest.approx(total, rel=1e-4)


def test_guidance_is_learnt_in_one_pass() -> None:
    student, teacher = tiny_wan(1), Teacher(tiny_wan(), normal(5, 16, seed=9), 3.0)
    clip, noise, time = clips(0), clips(1), torch.tensor([0.25, 0.5])
    loss = losses.guidance_loss(student, Noisy(clip, noise, time, words(2)), teacher=teacher)
    x = clip + time.view(-1, 1, 1, 1, 1) * (noise - clip)
    with torch.no_grad():
        said = student(x, 1000 * time, words(2).text_BLD, return_dict=False)[0]
    expected = (said - teacher.velocity(x, time, words(2))).square().mean()
    torch.testing.assert_close(loss.detach(), expected)


def test_trigonometric_coordinates_see_the_same_clip() -> None:
    network, angle = tiny_wan(), torch.tensor([0.4, 1.3])
    x, t = clips(0), angle.view(-1, 1, 1, 1, 1)
    with torch.no_grad():
        seen = t.cos() * x - t.sin() * trig_flow(network, x, angle, words(2))
        scale = 1 / (t.cos() + t.sin())
        straight = picture(network, x * scale, angle.tan() / (1 + angle.tan()), words(2))
    torch.testing.assert_close(seen, straight, rtol=1e-4, atol=1e-5)


def continuous(warm_up: float, derivative: Any, network: Any = None) -> tuple[Tensor, Any]:
    student = network or tiny_wan(1)
    teacher = Teacher(tiny_wan(), torch.zeros(5, 16), 1.0)
    time = torch.tensor([0.5, 1.2]).tan() / (1 + torch.tensor([0.5, 1.2]).tan())
    given = Noisy(clips(0), clips(1), time, words(2))
    loss = continuous_loss(student, given, teacher=teacher, warm_up=warm_up, derivative=derivative)
    return loss, student


def test_the_tangents_norm_decides_the_continuous_loss() -> None:
    """The loss is Σ(F - F⁻ - g)² at F = F⁻, so it is |g|² = (n / (n + 0.1))² and never above 1."""
    loss, _ = continuous(1.0, "difference")
    assert 0.5 < loss.item() < 1


def test_continuous_consistency_starts_as_the_teachers_flow() -> None:
    """Without the tangent, the gradient points from the student's flow to the teacher's."""
    loss, student = continuous(0.0, "difference")
    loss.backward()
    x = torch.cos(t := torch.tensor([0.5, 1.2]).view(-1, 1, 1, 1, 1)) * clips(0) + torch.sin(t) * clips(1)
    own = trig_flow(student, x, torch.tensor([0.5, 1.2]), words(2))
    with torch.no_grad():
        error = t.cos() * (own - trig_flow(tiny_wan(), x, torch.tensor([0.5, 1.2]), words(2)))
        unit = error / (error.flatten(1).norm(dim=1).view(-1, 1, 1, 1, 1) + 0.1)
    before = student.proj_out.weight.grad.clone()
    student.zero_grad()
    (own * unit).flatten(1).sum(1).mean().mul(2).backward()
    torch.testing.assert_close(before, student.proj_out.weight.grad, rtol=1e-3, atol=1e-5)


def test_forward_mode_and_a_difference_agree() -> None:
    """Float32 leaves a difference of two passes 1e-3 apart from one another in a noise of a few percent."""
    grads = []
    for kind in ("forward mode", "difference"):
        loss, student = continuous(1.0, kind)
        loss.backward()
        grads.append(torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None]))
    cosine = torch.nn.functional.cosine_similarity(grads[0], grads[1], dim=0)
    assert cosine > 0.995


def test_a_judge_learns_to_tell_and_the_student_to_deceive() -> None:
    torch.manual_seed(0)
    judge = Judge(4, 16, width=8)
    text = words(8).text_BLD
    optimizer = torch.optim.AdamW(judge.parameters(), lr=3e-3)
    found = []
    for step in range(30):
        made, real = normal(8, 4, 4, 8, 8, seed=step) + 0.7, normal(8, 4, 4, 8, 8, seed=1000 + step)
        loss = judge_loss(judge, made, real, torch.randn_like(made), (text, text))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found[-1] < 0.7 * found[0]
    clip = (normal(8, 4, 4, 8, 8, seed=50) + 0.7).requires_grad_()
    deceive_loss(judge, clip, torch.zeros_like(clip), text).backward()
    assert clip.grad is not None
    assert clip.grad.mean() > 0  # down, towards the real ones
