"""The teacher's ways from noise to clips, cached on disk: made once, with guidance, and read many times.

A shard is a safetensors file of a few clips of one size: `states` (N, S + 1, C, T, H, W) from pure noise to the clip,
`times` (S + 1), `prompts` (N), the places of their prompts among the encoded ones. A training reads single states of
it, so a cache may be larger than memory.
Shape letters: N clips of a shard, S steps, B batch, C channels, T latent frames, H height, W width.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from homereel.core.errors import HomereelError
from homereel.sampling import SolverState, given_schedule, unipc_step
from homereel.training.distillation.flow import Conditions, Teacher
from homereel.training.distillation.recipe import DistillRecipe
from homereel.training.distillation.texts import Texts
from homereel.training.ranks import Rank
from homereel.training.run import Budget, Run

SHARD_CLIPS = 8


def fill_trajectories(
    rank: Rank,
    recipe: DistillRecipe,
    budget: Budget,
    folder: Path,
    *,
    teacher: Teacher,
    texts: Texts,
    shapes: list[tuple[int, ...]],
    on_line: Callable[[str], None] = print,
) -> None:
    """Write shards until there are `recipe.num_clips` clips or the budget is spent; the ranks take turns.

    `shapes` are those of the latents (C, T, H, W), one for each of the recipe's sizes. What is there is kept, so the
    same call goes on where it was stopped; a shard is the same whenever and by whomever it is made.
    """
    run = Run(folder, rank, on_line=on_line)
    num_shards = -(-recipe.num_clips // SHARD_CLIPS)
    for index in range(rank.index, num_shards, rank.count):
        path = folder / f"clips_{index:05d}.safetensors"
        if not path.exists():
            shape = shapes[_size_index(recipe, index)]
            write_trajectories(teacher, texts, path, index=index, shape=shape, recipe=recipe, device=rank.device)
        budget.step = index + 1
        shown = Budget(num_steps=num_shards, step=index + 1, _since=budget._since)
        if budget.share() > shown.share():
            shown = budget
        run.log(shown, clips=(index + 1) * SHARD_CLIPS)
        if budget.share() >= 1:
            break


def write_trajectories(
    teacher: Teacher,
    texts: Texts,
    path: Path,
    *,
    index: int,
    shape: tuple[int, ...],
    recipe: DistillRecipe,
    device: torch.device,
) -> None:
    """One shard: the prompts, the noise, and so the clips, follow from its index."""
    from safetensors.torch import save_file

    rng = random.Random(f"trajectories {recipe.seed} {index}")
    chosen = [rng.randrange(len(texts.prompts)) for _ in range(SHARD_CLIPS)]
    generator = torch.Generator().manual_seed(rng.getrandbits(40))
    noise = torch.randn(SHARD_CLIPS, *shape, generator=generator)
    conditions = Conditions(texts.states(chosen).to(device))
    states = way(teacher, noise.to(device), conditions, times=recipe.teacher_times)
    times = torch.tensor(recipe.teacher_times)
    tensors = {"states": states.half().cpu(), "times": times, "prompts": torch.tensor(chosen)}
    partial = path.with_name(f".{path.name}.partial")
    save_file(tensors, partial)
    partial.replace(path)


@torch.no_grad()
def way(teacher: Teacher, noise: Tensor, conditions: Conditions, *, times: tuple[float, ...]) -> Tensor:
    """Every state of the teacher's own sampling with UniPC, (B, S + 1, C, T, H, W), the last one the clip."""
    schedule = given_schedule(times)
    solver = SolverState(sample=noise)
    states = [noise]
    for time in schedule.sigmas[:-1]:
        time_B = time.to(noise).expand(len(noise))
        solver = unipc_step(solver, teacher.velocity(solver.sample, time_B, conditions), schedule=schedule)
        states.append(solver.sample)
    return torch.stack(states, dim=1)


@dataclass(frozen=True)
class Drawn:
    """Points of cached ways: `x` at `time_B`, the clips to which they lead, and the words."""

    x: Tensor
    time_B: Tensor
    clip: Tensor
    text_BLD: Tensor

    def to(self, device: torch.device) -> Drawn:
        """The same elsewhere."""
        return Drawn(*(part.to(device) for part in (self.x, self.time_B, self.clip, self.text_BLD)))


class Trajectories:
    """The shards of a folder, grouped by the shape of their latents. Raises HomereelError for one without clips."""

    def __init__(self, folder: Path, texts: Texts) -> None:
        from safetensors import safe_open

        self.texts = texts
        self._groups: dict[tuple[int, ...], list[tuple[Any, int, list[int], list[float]]]] = {}
        for path in sorted(folder.glob("clips_*.safetensors")):
            opened: Any = safe_open(path, "pt")
            file = opened.__enter__()  # stays open: states are read one by one
            shape = file.get_slice("states").get_shape()
            prompts, times = file.get_tensor("prompts").tolist(), file.get_tensor("times").tolist()
            rows = self._groups.setdefault(tuple(shape[2:]), [])
            rows.extend((file, row, prompts, times) for row in range(shape[0]))
        if not self._groups:
            raise HomereelError(f"{folder} holds no clips of the teacher; run the stage trajectories first")

    def __len__(self) -> int:
        return sum(len(rows) for rows in self._groups.values())

    def shapes(self) -> list[tuple[int, ...]]:
        """Those that there are (C, T, H, W)."""
        return sorted(self._groups)

    def shape(self, rng: random.Random) -> tuple[int, ...]:
        """The shape of a clip drawn at random."""
        shapes = self.shapes()
        return rng.choices(shapes, [len(self._groups[shape]) for shape in shapes])[0]

    def draw(
        self, rng: random.Random, count: int, *, shape: tuple[int, ...], start_share: float, lowest_time: float
    ) -> Drawn:
        """`count` points of ways of this shape: pure noise in `start_share` of them, else any time above the lowest."""
        states, clips, times, chosen = [], [], [], []
        for file, row, prompts, way_times in rng.choices(self._groups[shape], k=count):
            later = [k for k, time in enumerate(way_times) if k and time >= lowest_time]
            index = 0 if rng.random() < start_share or not later else rng.choice(later)
            stored = file.get_slice("states")
            last = len(way_times) - 1
            states.append(stored[row : row + 1, index : index + 1][0, 0].float())
            clips.append(stored[row : row + 1, last : last + 1][0, 0].float())
            times.append(way_times[index])
            chosen.append(prompts[row])
        return Drawn(torch.stack(states), torch.tensor(times), torch.stack(clips), self.texts.states(chosen))


def _size_index(recipe: DistillRecipe, index: int) -> int:
    """Which of the recipe's sizes a shard has, so that every run of shards holds them by their shares."""
    if len(recipe.sizes) < 2:
        return 0
    total = sum(size.share for size in recipe.sizes)
    place = (index * 0.6180339887498949 + 0.01) % 1 * total
    for k, size in enumerate(recipe.sizes):
        place -= size.share
        if place < 0:
            return k
    return len(recipe.sizes) - 1
