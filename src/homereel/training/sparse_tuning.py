"""Tunes a model to sparse-linear attention, white box (Zhang et al. 2025, arXiv 2509.24006).

A copy of the model, in which attention keeps a share of its blocks and a projection brings back what the others would
have said, learns to tell the same flow as the whole model does. Nothing is guided and no clip is made anew.
Shape letters: B batch, C channels, T latent frames, H height, W width.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from homereel.core.errors import InvalidRequest
from homereel.core.protocols import Family
from homereel.models.registry import model_family, model_folder
from homereel.passes.sparse_attention import LAYOUTS
from homereel.passes.steps import Progress
from homereel.passes.token_order import ORDERS, PLAIN
from homereel.training.distill import default_recipe, distill
from homereel.training.distillation.flow import Conditions, Noisy, velocity
from homereel.training.distillation.recipe import DistillRecipe, Size, Sparse
from homereel.training.distillation.student import (
    add_to_card,
    lay_out,
    own_passes,
    write_projections,
    write_weights,
)
from homereel.training.distillation.texts import Texts
from homereel.training.distillation.trajectories import Trajectories
from homereel.training.drawn_clips import DrawnClips, Shape, cached_shapes, caption_clips
from homereel.training.learner import Learner, make_learner
from homereel.training.plot import plot_log
from homereel.training.ranks import Rank, default_rank_count, spawn
from homereel.training.run import Budget, Run, learning_rate_factor
from homereel.training.sharding import share_out
from homereel.training.sparse_network import make_sparse

LOG_EVERY = 10


@dataclass(frozen=True)
class SparseRecipe:
    """How a model is tuned to sparse attention."""

    ratio: float = 0.15
    first_layers: int = 1
    """So many stay dense, as in the pass."""
    order: str = PLAIN
    """How tokens follow each other, as in the pass."""
    batch_size: int = 4
    rate: float = 1e-5
    warm_up_steps: int = 100
    weight_decay: float = 0.01
    noise_mean: float = 1.5
    noise_spread: float = 1.6
    """log(noise / clip) is normal with this mean and spread."""
    average_decay: float = 0.999
    size: Size | None = None
    """Clips to tune on; by default any that are cached."""
    dense_share: float = 0.0
    """How often attention is whole, on clips of any size: what is tuned then stays good without the pass, too."""
    num_clips: int = 256
    cache_share: float = 0.25
    minutes: float = 60.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise InvalidRequest(f"--order: give one of {', '.join(ORDERS)}, not {self.order!r}", field="order")


@dataclass(frozen=True)
class SparseTask:
    """What to tune, and where; the same for every rank. `clips` is the folder whose cached clips are used."""

    model: str
    folder: Path
    recipe: SparseRecipe
    clips: Path
    shared: bool = False

    @property
    def are_drawn(self) -> bool:
        """The clips are not a teacher's."""
        return not (self.clips / "trajectories").is_dir()


def tune_sparse(
    model: str,
    folder: Path,
    *,
    recipe: SparseRecipe | None = None,
    clips: Path | None = None,
    prompts: Path | None = None,
    shared: bool = False,
    on_line: Callable[[str], None] = print,
) -> Path:
    """Tune until the time is over; returns `folder/sparse`, the model with its projections beside the transformer.

    `clips` is the folder of a distillation whose cached clips are used, or of a training of the built-in model, whose
    drawn ones are; without it the teacher's clips are made here first. Goes on where it was stopped. Raises
    InvalidRequest for a model that cannot be tuned so, and for clips of other sizes.
    """
    family, recipe = model_family(model), recipe or default_sparse_recipe(model)
    if family.block_facts.layout not in LAYOUTS or family.block_facts.layout != "wan":
        raise InvalidRequest(f"{model} cannot be tuned to sparse attention: its blocks are not Wan's", field="model")
    if clips is None:
        caching = _caching_recipe(family, recipe, sizes=_sizes(family, recipe))
        distill(model, folder, recipe=caching, prompts=prompts, stages=("prompts", "trajectories"), on_line=on_line)
    task = SparseTask(model, folder, recipe, clips or folder, shared)
    _check_size(task, family)
    if task.are_drawn:
        spawn(_caption, task, count=1)
    on_line("sparse: starts")
    spawn(_tune, task, count=default_rank_count())
    return folder / "sparse"


def default_sparse_recipe(model: str) -> SparseRecipe:
    """A small network takes larger steps."""
    small = bool(model_family(model).vocabulary())
    if not small:
        return SparseRecipe()
    return SparseRecipe(rate=3e-4, average_decay=0.995, warm_up_steps=20, dense_share=0.3)


def _sizes(family: Family, recipe: SparseRecipe) -> tuple[Size, ...]:
    """Of the clips to make: the size to attend sparsely in, and the model's own where whole attention is kept there."""
    clip = family.defaults
    own = Size(clip.width, clip.height, clip.num_frames)
    if recipe.size is None:
        return ()
    return (recipe.size, own) if recipe.dense_share and recipe.size != own else (recipe.size,)


def _caching_recipe(family: Family, recipe: SparseRecipe, *, sizes: tuple[Size, ...]) -> DistillRecipe:
    return replace(
        default_recipe(family),
        sizes=sizes,
        num_clips=recipe.num_clips,
        cache_share=recipe.cache_share,
        minutes=recipe.minutes,
        seed=recipe.seed,
    )


def sparse_loss(sparse: Any, given: Noisy, *, dense: Any) -> Tensor:
    """Mean squared difference of the flow that both tell."""
    x = given.x
    with torch.no_grad():
        wanted = velocity(dense, x, given.time_B, given.conditions)
    return (velocity(sparse, x, given.time_B, given.conditions) - wanted).square().mean()


def _tune(rank: Rank, task: SparseTask) -> None:
    recipe, family = task.recipe, model_family(task.model)
    dense: Any = family.load("transformer", device=str(rank.device), dtype="float32")
    network, progress = copy.deepcopy(dense).requires_grad_(True), Progress(first_share=0.0)
    sparse = _learnt(recipe, family)
    make_sparse(
        network, family, ratio=sparse.ratio, first_layers=sparse.first_layers, order=sparse.order, progress=progress
    )
    if task.shared:
        share_out(network, family.blocks(network), rank)
    learner = make_learner(
        network,
        optimizer="adamw",
        weight_decay=recipe.weight_decay,
        average_decay=recipe.average_decay,
        shared=task.shared,
        betas=(0.9, 0.999),
    )
    tuning = Tuning(learner, dense, progress, _clips(task), _shape(task, family))
    budget, run = Budget(seconds=60 * recipe.minutes), Run(task.folder / "tuning", rank)
    train_sparse(rank, recipe, budget, run, tuning)
    weights = learner.averaged()
    if rank.is_first:
        save_sparse(weights, network, model=task.model, target=task.folder / "sparse", sparse=sparse)
        plot_log(run.folder)


def _caption(rank: Rank, task: SparseTask) -> None:
    if rank.is_first:
        family = model_family(task.model)
        caption_clips(task.clips / "cache", task.folder, family=family)


def _clips(task: SparseTask) -> Trajectories | DrawnClips:
    if task.are_drawn:
        return DrawnClips(task.clips / "cache", task.folder)
    return Trajectories(task.clips / "trajectories", Texts(task.clips))


def _shape(task: SparseTask, family: Family) -> Shape | None:
    """Of the latents that are asked for, None if any will do."""
    if (size := task.recipe.size) is None:
        return None
    asked = {"width": size.width, "height": size.height, "num_frames": size.num_frames}
    return tuple(family.shapes(**asked, dtype="float32").latents[1:])


def _check_size(task: SparseTask, family: Family) -> None:
    """Raises InvalidRequest if no clip has the size that is asked for."""
    there = cached_shapes(task.clips / "cache") if task.are_drawn else _clips(task).shapes()
    wanted = _shape(task, family)
    if wanted is not None and wanted not in there:
        held = ", ".join("x".join(map(str, each)) for each in there) or "nothing"
        raise InvalidRequest(
            f"--clips: {task.clips} has no clips of this --size; its latents are {held}", field="clips"
        )


@dataclass(frozen=True)
class Tuning:
    """The network that learns and the one it is compared with; clips, and the shape of those to attend sparsely in."""

    learner: Learner
    dense: Any
    progress: Progress
    clips: Trajectories | DrawnClips
    shape: Shape | None

    def draw(self, rank: Rank, recipe: SparseRecipe, *, step: int) -> Noisy:
        """The clips of a step, and whether attention is whole in it, on which all ranks agree."""
        common = random.Random(f"shape {recipe.seed} {step}")
        self.progress.early = common.random() < recipe.dense_share
        any_shape = self.clips.shape(common)
        shape = any_shape if self.progress.early else self.shape or any_shape
        count = recipe.batch_size * max(1, prod(self.shape or shape) // prod(shape))  # small clips cost little
        rng = random.Random(f"sparse {recipe.seed} {rank.index} {step}")
        torch.manual_seed(rng.getrandbits(31))
        drawn = self.clips.draw(rng, count, shape=shape, start_share=1.0, lowest_time=1.0).to(rank.device)
        normal = torch.randn(count) * recipe.noise_spread + recipe.noise_mean
        time_B = torch.sigmoid(normal).clamp(0.01, 0.995).to(rank.device)
        return Noisy(drawn.clip, torch.randn_like(drawn.clip), time_B, Conditions(drawn.text_BLD))


def train_sparse(rank: Rank, recipe: SparseRecipe, budget: Budget, run: Run, tuning: Tuning) -> None:
    """Train until the budget is spent."""
    learner, losses = tuning.learner, dict[str, float]()
    if (saved := run.load()) is not None:
        learner.restore(saved[0], "sparse")
        budget.resume(step=saved[1]["step"], spent_seconds=saved[1]["spent_seconds"])
    while not rank.any(budget.share() >= 1):
        given = tuning.draw(rank, recipe, step=budget.step)
        with rank.autocast():
            loss = sparse_loss(learner.network, given, dense=tuning.dense)
        loss.backward()
        kind = "dense" if tuning.progress.early else "loss"
        losses[kind] = losses.get(kind, loss.item()) * 0.95 + loss.item() * 0.05
        rate = learning_rate_factor(budget.share(), budget.step, warm_up_steps=recipe.warm_up_steps, floor=0.1)
        norm = learner.step(rank, rate=recipe.rate * rate, momentum=0.9, step=budget.step)
        budget.step += 1
        if (budget.step - 1) % LOG_EVERY == 0:
            run.log(budget, **losses, norm=norm)
        if rank.any(run.due()):
            _checkpoint(run, learner, budget)
    _checkpoint(run, learner, budget)


def _checkpoint(run: Run, learner: Learner, budget: Budget) -> None:
    tensors = learner.tensors("sparse")
    run.save(tensors, {"step": budget.step, "spent_seconds": budget.elapsed()})


def _learnt(recipe: SparseRecipe, family: Family) -> Sparse:
    """What the model's clips are made with then: shorter ones wholly, where the model still learns that."""
    from_tokens = 0
    if recipe.dense_share and (size := recipe.size) is not None:
        asked = {"width": size.width, "height": size.height, "num_frames": size.num_frames}
        from_tokens = family.shapes(**asked, dtype="float32").num_tokens
    return Sparse(recipe.ratio, recipe.first_layers, from_tokens, recipe.order)


def save_sparse(weights: dict[str, Tensor], network: Any, *, model: str, target: Path, sparse: Sparse) -> None:
    """The tuned transformer in the model's own layout, beside it the projections, and a card that says so."""
    found = model_folder(model)
    assert found is not None, "the model was loaded"
    lay_out(found.path, target)
    buffers = {name: t for name, t in network.state_dict().items() if name not in weights}
    write_weights({**weights, **buffers}, target)
    write_projections(weights, target, ratio=sparse.ratio, first_layers=sparse.first_layers)
    add_to_card(target, own_passes(sparse))
