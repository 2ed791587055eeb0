"""Trains a student by the phases of a recipe, from its teacher's weights, with checkpoints that resume."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from homereel.training.distillation.flow import Teacher
from homereel.training.distillation.judge import Judge
from homereel.training.distillation.recipe import DistillRecipe, LossName
from homereel.training.distillation.step import Learners, Progress, Work
from homereel.training.distillation.trajectories import Trajectories
from homereel.training.learner import Learner, make_learner
from homereel.training.ranks import Rank
from homereel.training.run import Budget, Run
from homereel.training.sharding import share_out

LOG_EVERY = 10


def train_student(
    rank: Rank,
    recipe: DistillRecipe,
    budget: Budget,
    run: Run,
    *,
    teacher: Teacher,
    blocks: Callable[[Any], Any],
    cache: Trajectories,
    takes_first_frame: bool,
    save: Callable[[dict[str, Tensor]], None],
    shared: bool = False,
    start: Mapping[str, Tensor] | None = None,
    adapt: Callable[[Any], Any] | None = None,
) -> None:
    """Train until the budget is spent; `save` gets the student's averaged weights now and then and at the end.

    `blocks` tells a network's blocks. With `shared`, student and critic are shared out among the ranks. `start` are
    the weights that the student begins with, the teacher's by default; `adapt` changes its network before it learns.
    """
    text_dim = cache.texts.dim
    learners = _learners(
        rank, recipe, teacher, blocks=blocks, text_dim=text_dim, shared=shared, start=start, adapt=adapt
    )
    progress = Progress()
    if (saved := run.load()) is not None:
        for name, learner in learners.named().items():
            learner.restore(saved[0], name)
        state = saved[1]
        budget.resume(step=state["step"], spent_seconds=state["spent_seconds"])
        progress = Progress(state["phase"], state["phase_step"], state["smooth"])
    work = Work(rank, recipe, teacher, learners, cache, takes_first_frame)
    while (share := rank.agreed(budget.share())) < 1:  # or one would begin a phase before the others
        index, inside = recipe.phase_at(share)
        if index != progress.phase:
            progress = Progress(index, 0, progress.smooth)
        norm = work.step(recipe.phases[index], progress, step=budget.step, inside=inside)
        budget.step += 1
        progress.phase_step += 1
        if (budget.step - 1) % LOG_EVERY == 0:
            run.log(budget, **progress.smooth, norm=norm, phase=index)
        if rank.any(run.due()):
            _save(run, learners, budget, progress, save=save)
    _save(run, learners, budget, progress, save=save)


def _save(
    run: Run, learners: Learners, budget: Budget, progress: Progress, *, save: Callable[[dict[str, Tensor]], None]
) -> None:
    tensors: dict[str, Tensor] = {}
    for name, learner in learners.named().items():
        tensors |= learner.tensors(name)
    averaged = learners.student.averaged()
    if run.rank.is_first:
        state = {"step": budget.step, "spent_seconds": budget.elapsed(), **vars(progress)}
        run.save(tensors, state)
        save(averaged)


def _learners(
    rank: Rank,
    recipe: DistillRecipe,
    teacher: Teacher,
    *,
    blocks: Callable[[Any], Any],
    text_dim: int,
    shared: bool,
    start: Mapping[str, Tensor] | None,
    adapt: Callable[[Any], Any] | None,
) -> Learners:
    """Student and critic start as the teacher, or the student as told; the critic is only there if a phase needs it."""

    def copied(*, average_decay: float | None, is_student: bool = False) -> Learner:
        network = copy.deepcopy(teacher.network).float().requires_grad_(True)
        if is_student and adapt is not None:
            network = adapt(network)
        if is_student and start is not None:
            network.load_state_dict(start, strict=False)  # projections of sparse attention may be left as they are
        if recipe.gradient_checkpointing:
            network.enable_gradient_checkpointing()
        if shared:
            share_out(network, blocks(network), rank)
        return make_learner(
            network,
            optimizer=recipe.optimizer,
            weight_decay=recipe.weight_decay,
            average_decay=average_decay,
            shared=shared,
            betas=(0.9, 0.97) if recipe.optimizer == "muon" else (0.0, 0.999),
        )

    needed: set[LossName] = {name for phase in recipe.phases for name in phase.losses}
    learners = Learners(copied(average_decay=recipe.average_decay, is_student=True))
    if "match" in needed:
        learners.critic = copied(average_decay=None)
    if "deceive" in needed:
        torch.manual_seed(recipe.seed)
        judge = Judge(teacher.network.config.in_channels, text_dim).to(rank.device)
        learners.judge = make_learner(judge, optimizer="adamw", betas=(0.5, 0.97))
    return learners
