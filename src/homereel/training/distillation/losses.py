"""What a student learns from: the teacher's cached ways, its own later guess, the guided flow, and a critic.

Every loss is a mean over the batch, takes what is random as an argument, and leaves the networks as they are.
Shape letters: B batch, C channels, T latent frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from homereel.sampling import rcm_step
from homereel.training.distillation.flow import TOLD, Conditions, Noisy, Teacher, picture, spread, velocity

HUBER = 0.01
"""Below this root-mean-square error a clip's distance is quadratic, above it linear."""


def trajectory_loss(student: Any, x: Tensor, time_B: Tensor, conditions: Conditions, *, end: Tensor) -> Tensor:
    """From a point of the teacher's way straight to the way's end (Luhman and Luhman 2021, arXiv 2101.02388)."""
    return distance(picture(student, x, time_B, conditions, told=TOLD), end)


def straight_loss(student: Any, way: Noisy, *, start: float) -> Tensor:
    """From the straight line between a cached way's noise and its end to that end (reflow, Liu et al. 2022).

    What steps along its own flow walks on such lines, arXiv 2209.03003, so that each noise keeps its clip. From
    `start` on there is no clip in x, x = time * noise, as in sampling.
    """
    at_start = spread(way.time_B >= start)
    x = torch.where(at_start, spread(way.time_B) * way.noise, way.x)
    return distance(picture(student, x, way.time_B, way.conditions, told=TOLD), way.clip)


def consistency_loss(student: Any, given: Noisy, *, teacher: Teacher, gap: float) -> Tensor:
    """The student says the same here as after one step of the teacher (discrete consistency, Song et al. 2023).

    The step leads from the clip's time to `gap` below it; where that is 0, to what the teacher itself sees.
    """
    x, time_B, conditions = given.x, given.time_B, given.conditions
    with torch.no_grad():
        later_B = (time_B - gap).clamp(min=0)
        nearer = x - spread(time_B - later_B) * teacher.velocity(x, time_B, conditions)
        seen = picture(student, nearer, later_B, conditions, told=TOLD)
        target = torch.where(spread(later_B) > 0, seen, nearer)
    return distance(picture(student, x, time_B, conditions, told=TOLD), target)


def guidance_loss(student: Any, given: Noisy, *, teacher: Teacher) -> Tensor:
    """One pass of the student says what two passes of the teacher say (Meng et al. 2023, arXiv 2210.03142)."""
    x = given.x
    wanted = teacher.velocity(x, given.time_B, given.conditions)
    return (velocity(student, x, given.time_B, given.conditions, told=TOLD) - wanted).square().mean()


def rollout(student: Any, noises: Sequence[Tensor], times: Sequence[float], conditions: Conditions) -> Tensor:
    """The student's clip after as many steps of its sampler as there are times; only the last step has gradients.

    Pure noise is the start: x = times[0] * noise, as in sampling. With a noise for each time the steps are stochastic,
    with the first noise alone they go straight along the flow.
    """
    x = times[0] * noises[0]
    last = len(times) - 1
    for index, time in enumerate(times):
        with torch.set_grad_enabled(torch.is_grad_enabled() and index == last):
            flow = velocity(student, x, x.new_full((len(x),), time), conditions, told=TOLD)
            after = 0.0 if index == last else times[index + 1]
            fresh = noises[index + 1] if after and len(noises) > 1 else None
            x = rcm_step(x, flow, sigma=time, next_sigma=after, noise=fresh)
    return x


def match_loss(made: Noisy, *, teacher: Teacher, critic: Any) -> Tensor:
    """Distribution matching (Yin et al. 2024, arXiv 2311.18828): go where the teacher sees more than the critic does.

    Its gradient over the student's clips is what `critic`, which knows them, sees less what the teacher sees, in units
    of how far the teacher is from the clip, over the number of elements.
    """
    clip, time = made.clip, spread(made.time_B)
    with torch.no_grad():
        x = made.x
        wished = x - time * teacher.velocity(x, made.time_B, made.conditions)
        usual = picture(critic, x, made.time_B, made.conditions)
        unit = (clip - wished).abs().mean(dim=(1, 2, 3, 4), keepdim=True).clamp(min=1e-6)
        target = clip - (usual - wished) / unit
    return 0.5 * (clip - target).square().mean()


def critic_loss(critic: Any, made: Noisy) -> Tensor:
    """The critic learns to denoise the student's clips; errors are weighted 1 / sin² of the time's angle, as in rCM."""
    time = spread(made.time_B)
    sine_squared = time.square() / (time.square() + (1 - time).square())
    seen = picture(critic, made.x, made.time_B, made.conditions)
    return ((made.clip - seen).square() / sine_squared).mean()


def distance(guess: Tensor, target: Tensor) -> Tensor:
    """Pseudo-Huber over whole clips (Song and Dhariwal 2023, arXiv 2310.14189).

    Clips that can only be guessed, those of high times, then pull no harder than those that can be known.
    """
    squared_B = (guess - target).square().mean(dim=(1, 2, 3, 4))
    return ((squared_B + HUBER**2).sqrt() - HUBER).mean()
