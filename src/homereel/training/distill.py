"""Makes a student of a model: prompts encoded, the teacher's ways cached, the student trained, all resumable.

The student needs a few steps and no guidance, where its teacher needs many, each with two passes. `folder/student` is
a model folder like any other, from the first checkpoint on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor

from homereel.core.errors import HomereelError, InvalidRequest
from homereel.core.protocols import Family
from homereel.models.registry import model_family, model_folder
from homereel.training.distillation.flow import Teacher
from homereel.training.distillation.recipe import DistillRecipe, large_recipe, pocket_recipe
from homereel.training.distillation.student import TRANSFORMER, lay_out, write_card, write_projections, write_weights
from homereel.training.distillation.texts import FILE, Texts, encode_prompts, prompts_of
from homereel.training.distillation.trainer import train_student
from homereel.training.distillation.trajectories import Trajectories, fill_trajectories
from homereel.training.plot import plot_log
from homereel.training.ranks import Rank, default_rank_count, spawn
from homereel.training.run import Budget, Run
from homereel.training.sparse_network import make_sparse
from homereel.weights.model_folder import ModelFolder
from homereel.weights.safetensors_file import read_header

Stage = Literal["prompts", "trajectories", "student"]
STAGES: tuple[Stage, ...] = get_args(Stage)
_PROJECTIONS = (".attn1.proj_l.", ".attn1.processor.proj_l.")  # of tuned attention: as loaded, and where they learn


@dataclass(frozen=True)
class Task:
    """What to distil, and where; the same for every rank."""

    model: str
    folder: Path
    recipe: DistillRecipe
    prompts: Path | None = None
    shared: bool = False
    start_from: str | None = None

    @property
    def student(self) -> Path:
        """Where the student's model folder is."""
        return self.folder / "student"


def distill(
    model: str,
    folder: Path,
    *,
    recipe: DistillRecipe | None = None,
    prompts: Path | None = None,
    stages: Sequence[Stage] = STAGES,
    shared: bool = False,
    start_from: str | None = None,
    on_line: Callable[[str], None] = print,
) -> Path:
    """Run the stages in order; returns the student's folder, in diffusers layout.

    Stages that are done are not done again; the others go on where they stopped. With `shared`, the networks are
    shared out among the ranks, for models that one GPU cannot train. The student begins as the teacher, or as the model
    `start_from`, which is another student of it, say of other sizes. Raises InvalidRequest for models that cannot be
    distilled or are no kin, and what `model_family` raises.
    """
    family = _check(model)
    if start_from is not None:
        _check_kin(start_from, model)
    task = Task(model, folder, recipe or default_recipe(family), prompts, shared, start_from)
    prompts_of(family, file=prompts, num=1, seed=0)  # refused before the work
    folder.mkdir(parents=True, exist_ok=True)
    count = default_rank_count()
    for stage in stages:
        if (folder / f"{stage}.done").exists():
            on_line(f"{stage}: done before")
            continue
        on_line(f"{stage}: starts")
        spawn(_WORK[stage], task, count=1 if stage == "prompts" else count)
        (folder / f"{stage}.done").touch()
    return task.student


def default_recipe(family: Family) -> DistillRecipe:
    """Small networks and large ones want different ones."""
    return pocket_recipe() if family.vocabulary() else large_recipe()


def _check(model: str) -> Family:
    """Raises InvalidRequest for what the trainer cannot feed."""
    family = model_family(model)
    takes_words_alone = not family.required and family.block_facts.layout == "wan"
    if not takes_words_alone or not hasattr(family, "encode_text") or "transformer_2" in family.components:
        raise InvalidRequest(
            f"{model} cannot be distilled: that works for models of one transformer of Wan's kind that need words "
            "alone, such as pocket, wan2.1-t2v-1.3b or wan2.2-ti2v-5b",
            field="model",
        )
    return family


def _check_kin(student: str, teacher: str) -> None:
    """Raises InvalidRequest unless both have the same transformer, whatever its numbers are."""
    ones, others = (_shapes(model) for model in (student, teacher))
    if ones != others:
        name = min(name for name in ones.keys() | others.keys() if ones.get(name) != others.get(name))
        raise InvalidRequest(
            f"--from: {student} is no kin of {teacher}: {name} is not the same in both; name a student of this teacher",
            field="from",
        )


def _shapes(model: str) -> dict[str, tuple[int, ...]]:
    files = ModelFolder(_folder(model)).weight_files(TRANSFORMER)
    return {name: tensor.shape for file in files for name, tensor in read_header(file).items()}


def _encode(rank: Rank, task: Task) -> None:
    if not rank.is_first or (task.folder / FILE).exists():
        return
    family, recipe = model_family(task.model), task.recipe
    prompts = prompts_of(family, file=task.prompts, num=recipe.num_prompts, seed=recipe.seed)
    encoder = family.load("text_encoder", device=str(rank.device), dtype="float32")
    encode_prompts(family, encoder, prompts, task.folder, negative=recipe.negative_prompt)


def _cache(rank: Rank, task: Task) -> None:
    recipe = task.recipe
    family, teacher, texts = _teacher(rank, task)
    sizes = [(size.width, size.height, size.num_frames) for size in recipe.sizes] or [_standard(family)]
    shapes = [
        family.shapes(width=width, height=height, num_frames=num_frames, dtype="float32").latents[1:]
        for width, height, num_frames in sizes
    ]
    budget = Budget(seconds=60 * recipe.minutes * recipe.cache_share)
    fill_trajectories(rank, recipe, budget, task.folder / "trajectories", teacher=teacher, texts=texts, shapes=shapes)


def _standard(family: Family) -> tuple[int, int, int]:
    return family.defaults.width, family.defaults.height, family.defaults.num_frames


def _train(rank: Rank, task: Task) -> None:
    recipe = task.recipe
    family, teacher, texts = _teacher(rank, task)
    if rank.is_first:
        lay_out(_folder(task.model), task.student)
        write_card(task.student, times=recipe.times, sampler=recipe.sampler, sparse=recipe.sparse)
    buffers = {name: tensor.detach().clone() for name, tensor in _stored_buffers(teacher.network).items()}

    def save(weights: dict[str, Tensor]) -> None:
        write_weights({**weights, **buffers}, task.student)
        if recipe.sparse is not None:
            write_projections(weights, task.student, ratio=recipe.sparse.ratio, first_layers=recipe.sparse.first_layers)
        plot_log(task.folder / "training")

    train_student(
        rank,
        recipe,
        Budget(seconds=60 * recipe.minutes * (1 - recipe.cache_share)),
        Run(task.folder / "training", rank),
        teacher=teacher,
        blocks=family.blocks,
        cache=Trajectories(task.folder / "trajectories", texts),
        takes_first_frame="image" in family.inputs,
        save=save,
        shared=task.shared,
        start=None if task.start_from is None else _weights(task.start_from, rank=rank),
        adapt=None if recipe.sparse is None else partial(make_sparse, family=family, **vars(recipe.sparse)),
    )


def _teacher(rank: Rank, task: Task) -> tuple[Family, Teacher, Texts]:
    family = model_family(task.model)
    texts = Texts(task.folder)
    network = family.load(TRANSFORMER, device=str(rank.device), dtype="float32")
    guidance = task.recipe.guidance or family.defaults.guidance
    return family, Teacher(network, texts.empty_LD.to(rank.device), guidance), texts


def _weights(model: str, *, rank: Rank) -> dict[str, Tensor]:
    network: Any = model_family(model).load(TRANSFORMER, device=str(rank.device), dtype="float32")
    return {name.replace(*_PROJECTIONS): tensor for name, tensor in network.state_dict().items()}


def _stored_buffers(network: Any) -> dict[str, Tensor]:
    """Buffers that files hold beside the parameters."""
    parameters = {name for name, _ in network.named_parameters()}
    return {name: tensor for name, tensor in network.state_dict().items() if name not in parameters}


def _folder(model: str) -> Path:
    found = model_folder(model)
    if found is None:
        raise HomereelError(f"{model} is not on this machine; `homereel models pull {model}` fetches it")
    return found.path


_WORK: dict[Stage, Callable[[Rank, Task], None]] = {"prompts": _encode, "trajectories": _cache, "student": _train}
