"""One step of a distillation: the losses of its phase, the student's move, the critic's and the judge's."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from homereel.training.distillation.continuous import continuous_loss
from homereel.training.distillation.flow import Conditions, Noisy, Teacher, spread
from homereel.training.distillation.judge import deceive_loss, judge_loss
from homereel.training.distillation.losses import (
    consistency_loss,
    critic_loss,
    guidance_loss,
    match_loss,
    rollout,
    straight_loss,
    trajectory_loss,
)
from homereel.training.distillation.recipe import DistillRecipe, LossName, Part, Phase
from homereel.training.distillation.trajectories import Drawn, Trajectories
from homereel.training.learner import Learner
from homereel.training.ranks import Rank
from homereel.training.run import learning_rate_factor

WARM_UP_STEPS = 20
RATE_FLOOR = 0.1
TANGENT_WARM_UP = 0.25
"""In this share of a phase the tangent of continuous consistency rises to its full weight."""
JUDGE_RATE = 2e-4
SMOOTHING = 0.05


@dataclass
class Learners:
    """The student and those who judge it."""

    student: Learner
    critic: Learner | None = None
    judge: Learner | None = None

    def named(self) -> dict[str, Learner]:
        """Those that there are."""
        found = {"student": self.student, "critic": self.critic, "judge": self.judge}
        return {name: learner for name, learner in found.items() if learner is not None}


@dataclass
class Progress:
    """Where the recipe stands, besides the budget."""

    phase: int = 0
    phase_step: int = 0
    smooth: dict[str, float] = field(default_factory=dict)

    def note(self, name: str, value: float) -> None:
        """A figure's running mean."""
        before = self.smooth.get(name, value)
        self.smooth[name] = before + (value - before) * SMOOTHING


@dataclass(frozen=True)
class Chance:
    """What is random in a step: on this rank, on all ranks alike, and the shape (C, T, H, W) of its clips.

    Ranks must agree on whatever decides how many passes there are, since those that share weights wait for each other.
    """

    own: random.Random
    common: random.Random
    shape: tuple[int, ...]

    @staticmethod
    def of_step(seed: int, *, step: int, rank: Rank, cache: Trajectories) -> Chance:
        """The same whenever this step is done."""
        common = random.Random(f"distil {seed} {step}")
        return Chance(random.Random(f"distil {seed} {step} {rank.index}"), common, cache.shape(common))


@dataclass
class Work:
    """One training's step."""

    rank: Rank
    recipe: DistillRecipe
    teacher: Teacher
    learners: Learners
    cache: Trajectories
    takes_first_frame: bool
    usual: dict[tuple[int, ...], float] = field(default_factory=dict)

    def step(self, phase: Phase, progress: Progress, *, step: int, inside: float) -> float:
        """One step of a phase, of which the share `inside` is over; returns the norm of the student's gradient."""
        recipe, rank = self.recipe, self.rank
        chance = Chance.of_step(recipe.seed, step=step, rank=rank, cache=self.cache)
        torch.manual_seed(chance.own.getrandbits(31))
        factor = learning_rate_factor(inside, progress.phase_step, warm_up_steps=WARM_UP_STEPS, floor=RATE_FLOOR)
        alone = "match" in phase.losses and progress.phase_step < phase.critic_first
        if not alone:
            made = self._student_losses(phase, progress, chance, inside=inside)
            norm = self.learners.student.step(rank, rate=phase.rate * factor, momentum=phase.momentum, step=step)
        else:
            made, norm = None, 0.0
        if "match" in phase.losses:
            self._teach_critics(phase, progress, chance, made, factor=1.0 if alone else factor, step=step)
        return norm

    def _student_losses(self, phase: Phase, progress: Progress, chance: Chance, *, inside: float) -> _Made | None:
        """Add up the gradients of the phase's losses; returns what `match` made."""
        made = None
        for name, part in phase.losses.items():
            if name == "deceive":
                continue
            with self.rank.autocast():
                if name == "match":
                    made, loss = self._match(phase, part, progress, chance)
                else:
                    loss = self._loss(name, part, chance, inside=inside)
            (loss * part.weight).backward()
            progress.note(name, loss.item())
        for judge in (self.learners.critic, self.learners.judge):
            if judge is not None:
                judge.forget_gradients()
        return made

    def _loss(self, name: LossName, part: Part, chance: Chance, *, inside: float) -> Tensor:
        student, recipe = self.learners.student.network, self.recipe
        if name == "trajectory":
            drawn = self._draw(part.clips, chance, start_share=recipe.start_share)
            x, time_B = self._started(drawn)
            return trajectory_loss(student, x, time_B, Conditions(drawn.text_BLD), end=drawn.clip)
        drawn = self._draw(part.clips, chance)
        own_times = name in ("consistency", "straight")
        time_B = self._student_times(part.clips, chance.own) if own_times else self._times(part.clips)
        if name == "straight":
            way = Noisy(drawn.clip, drawn.x, time_B.to(drawn.x), Conditions(drawn.text_BLD))
            return straight_loss(student, way, start=recipe.times[0])
        given = Noisy(drawn.clip, torch.randn_like(drawn.clip), time_B, self._conditions(drawn, chance))
        if name == "consistency":
            return consistency_loss(student, given, teacher=self.teacher, gap=recipe.gap)
        if name == "guidance":
            return guidance_loss(student, given, teacher=self.teacher)
        warm_up = min(1.0, inside / TANGENT_WARM_UP)
        return continuous_loss(student, given, teacher=self.teacher, warm_up=warm_up, derivative=recipe.derivative)

    def _match(self, phase: Phase, part: Part, progress: Progress, chance: Chance) -> tuple[_Made, Tensor]:
        """Clips of the student, and what the teacher and the critics find of them."""
        assert self.learners.critic is not None
        made = self._make(part.clips, chance)
        progress.note(f"sharpness_{made.num_steps}", self._sharpness(made.clip))
        seen = self._with_noise(made)
        loss = match_loss(seen, teacher=self.teacher, critic=self.learners.critic.network)
        deceive = phase.losses.get("deceive")
        if deceive is not None and self.learners.judge is not None:
            noise = torch.randn_like(made.clip)
            found = deceive_loss(self.learners.judge.network, made.clip, noise, made.conditions.text_BLD)
            progress.note("deceive", found.item())
            loss = loss + found * (deceive.weight / part.weight)
        return replace(made, clip=made.clip.detach()), loss

    def _teach_critics(
        self,
        phase: Phase,
        progress: Progress,
        chance: Chance,
        made: _Made | None,
        *,
        factor: float,
        step: int,
    ) -> None:
        """The critic and the judge learn from what the student makes now."""
        clips, critic = phase.losses["match"].clips, self.learners.critic
        assert critic is not None
        for _ in range(phase.critic_steps):
            if made is None:
                with torch.no_grad(), self.rank.autocast():
                    made = self._make(clips, chance)
            with self.rank.autocast():
                loss = critic_loss(critic.network, self._with_noise(made))
            loss.backward()
            progress.note("critic", loss.item())
            critic.step(self.rank, rate=phase.critic_rate * factor, momentum=phase.momentum, step=step)
            if "deceive" in phase.losses and self.learners.judge is not None:
                self._teach_judge(self.learners.judge, progress, chance, made, step=step)
            made = None

    def _teach_judge(self, judge: Learner, progress: Progress, chance: Chance, made: _Made, *, step: int) -> None:
        real = self._draw(len(made.clip), chance)
        noise = torch.randn_like(made.clip)
        text = (made.conditions.text_BLD, real.text_BLD)
        loss = judge_loss(judge.network, made.clip, real.clip, noise, text)
        loss.backward()
        progress.note("judge", loss.item())
        judge.step(self.rank, rate=JUDGE_RATE, momentum=0.5, step=step)

    def _make(self, count: int, chance: Chance) -> _Made:
        """The student's clips for fresh noise, after as many steps as the recipe's shares choose."""
        times, shares = self.recipe.times[:-1], self.recipe.exit_shares
        num_steps = chance.common.choices(range(1, len(times) + 1), shares)[0]
        if self._gives_first(chance):
            drawn = self._draw(count, chance)
            conditions = Conditions(drawn.text_BLD, drawn.clip[:, :, :1])
        else:
            texts = self.cache.texts
            chosen = [chance.own.randrange(len(texts.prompts)) for _ in range(count)]
            conditions = Conditions(texts.states(chosen).to(self.rank.device))
        num_noises = num_steps if self.recipe.sampler == "rcm" else 1
        noises = [torch.randn(count, *chance.shape, device=self.rank.device) for _ in range(num_noises)]
        clip = rollout(self.learners.student.network, noises, times[:num_steps], conditions)
        return _Made(clip, conditions, num_steps)

    def _sharpness(self, made: Tensor) -> float:
        """How much neighbours differ, against the cached clips: below 1 is soft."""
        shape = tuple(made.shape[1:])
        if shape not in self.usual:
            usual = Chance(random.Random("usual"), random.Random("usual"), shape)
            self.usual[shape] = _roughness(self._draw(8, usual).clip)
        return _roughness(made.detach()) / self.usual[shape]

    def _with_noise(self, made: _Made) -> Noisy:
        """The student's clips as teacher and critic look at them."""
        return Noisy(made.clip, torch.randn_like(made.clip), self._times(len(made.clip)), made.conditions)

    def _draw(self, count: int, chance: Chance, *, start_share: float = 1.0) -> Drawn:
        lowest = self.recipe.lowest_time
        drawn = self.cache.draw(chance.own, count, shape=chance.shape, start_share=start_share, lowest_time=lowest)
        return drawn.to(self.rank.device)

    def _started(self, drawn: Drawn) -> tuple[Tensor, Tensor]:
        """What is pure noise stands where the student's sampler starts: x = time * noise."""
        start = self.recipe.times[0]
        is_start = drawn.time_B > start
        time_B = torch.where(is_start, start, drawn.time_B)
        return torch.where(spread(is_start), start * drawn.x, drawn.x), time_B

    def _conditions(self, drawn: Drawn, chance: Chance) -> Conditions:
        """The words, and now and then the first frame."""
        return Conditions(drawn.text_BLD, drawn.clip[:, :, :1] if self._gives_first(chance) else None)

    def _gives_first(self, chance: Chance) -> bool:
        return self.takes_first_frame and chance.own.random() < self.recipe.first_frame_share

    def _times(self, count: int) -> Tensor:
        """Times at which a clip is looked at, spread evenly over the recipe's distribution."""
        even = ((torch.arange(count) + torch.rand(count)) / count)[torch.randperm(count)]
        normal = torch.special.ndtri(even.clamp(1e-4, 1 - 1e-4))
        time_B = torch.sigmoid(normal * self.recipe.noise_spread + self.recipe.noise_mean)
        return time_B.clamp(0.01, 0.995).to(self.rank.device)

    def _student_times(self, count: int, rng: random.Random) -> Tensor:
        """Times at which the student is asked: half of them those of its sampler."""
        lowest, highest = self.recipe.lowest_time, self.recipe.times[0]
        own = self.recipe.times[:-1]
        times = [rng.choice(own) if rng.random() < 0.5 else rng.uniform(lowest, highest) for _ in range(count)]
        return torch.tensor(times, device=self.rank.device)


@dataclass(frozen=True)
class _Made:
    """Clips of the student, what they were made from, and in how many steps."""

    clip: Tensor
    conditions: Conditions
    num_steps: int


def _roughness(clip_BCTHW: Tensor) -> float:
    """Mean difference of neighbours in a row."""
    return float((clip_BCTHW[..., 1:] - clip_BCTHW[..., :-1]).abs().mean())
