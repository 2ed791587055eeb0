"""What decides a distillation, as data: phases, how many clips each loss takes in them, rates, times."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from homereel.core.errors import InvalidRequest
from homereel.passes.token_order import ORDERS, PLAIN
from homereel.sampling import rcm_times
from homereel.training.distillation.continuous import Derivative

LossName = Literal["trajectory", "straight", "consistency", "continuous", "guidance", "match", "deceive"]


@dataclass(frozen=True)
class Part:
    """How many clips a rank and step a loss takes, and how much it weighs."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}
    clips: int
    weight: float = 1.0


@dataclass(frozen=True)
class Phase:
    """A part of the training: until which share of it, the losses, the learning rates at its start.

    `deceive` judges the clips that `match` makes, so its own number of clips is not used. `critic_first` steps of the
    phase train the critic alone; then it takes `critic_steps` steps for each of the student's.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}
    until: float
    losses: Mapping[LossName, Part]
    rate: float = 1e-3
    momentum: float = 0.95
    critic_rate: float = 1e-3
    critic_steps: int = 1
    critic_first: int = 30


@dataclass(frozen=True)
class Size:
    """Clips of this size make up `share` of the cached ones."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}
    width: int
    height: int
    num_frames: int
    share: float = 1.0


@dataclass(frozen=True)
class Sparse:
    """The student's attention keeps the share `ratio` of its blocks, but in the first layers and in shorter clips.

    What is left out comes back through projections that learn with it. `order` is that of the tokens, as in the pass.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}
    ratio: float = 0.15
    first_layers: int = 1
    from_tokens: int = 0
    order: str = PLAIN

    def __post_init__(self) -> None:
        if not 0 < self.ratio <= 1 or self.first_layers < 0 or self.order not in ORDERS:
            raise InvalidRequest(
                "recipe: sparse: ratio is more than 0 and at most 1, first_layers a count from 0, order one of "
                + ", ".join(ORDERS),
                field="recipe",
            )


# The teacher's own steps: 16, dense where clips are laid out, and through the student's times.
TEACHER_TIMES = (
    1 - 1e-6, 0.985, 0.963, 0.93378, 0.897, 0.8529, 0.803, 0.746, 0.68, 0.60898, 0.53, 0.445, 0.355, 0.262, 0.17,
    0.08, 0.0,
)  # fmt: skip


@dataclass(frozen=True)
class DistillRecipe:
    """How a student is made of a teacher."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}
    phases: tuple[Phase, ...]
    guidance: float | None = None
    """The teacher's; by default that of its standard clip."""
    negative_prompt: str = ""
    times: tuple[float, ...] = rcm_times(4)
    """The student's, the last one 0; the first k of them are visited in k steps."""
    sampler: Literal["rcm", "rcm-ode"] = "rcm"
    """How it steps: with fresh noise, or straight along its flow."""
    exit_shares: tuple[float, ...] = (0.4, 0.2, 0.15, 0.25)
    """How often `match` looks at the clip after 1, 2, … steps."""
    sizes: tuple[Size, ...] = ()
    """By default the teacher's standard clip."""
    sparse: Sparse | None = None
    """By default the student attends to everything."""
    teacher_times: tuple[float, ...] = TEACHER_TIMES
    num_prompts: int = 6000
    num_clips: int = 3000
    """Ways of the teacher to cache, if `cache_share` of the time is enough."""
    cache_share: float = 0.25
    start_share: float = 0.4
    """How often `trajectory` starts from pure noise rather than on the way."""
    lowest_time: float = 0.15
    gap: float = 0.05
    """How far below its time `consistency` looks."""
    first_frame_share: float = 0.1
    """How often the first frame is given, for models that take one."""
    noise_mean: float = 0.7
    noise_spread: float = 1.6
    """`match` and `guidance` look at times sigmoid(normal) of this mean and spread."""
    derivative: Derivative = "forward mode"
    optimizer: Literal["muon", "adamw"] = "muon"
    weight_decay: float = 0.0
    average_decay: float = 0.995
    gradient_checkpointing: bool = False
    minutes: float = 120.0
    seed: int = 0

    def __post_init__(self) -> None:
        falls = all(later < earlier for earlier, later in zip(self.times, self.times[1:], strict=False))
        if len(self.times) < 2 or self.times[-1] != 0 or not falls or not self.times[0] <= 1:
            raise InvalidRequest("recipe: times must fall from at most 1 to 0", field="recipe")
        if len(self.exit_shares) != len(self.times) - 1:
            raise InvalidRequest(
                f"recipe: there are {len(self.times) - 1} steps, but {len(self.exit_shares)} exit_shares; "
                "give one for each",
                field="recipe",
            )
        ends = [phase.until for phase in self.phases]
        if not ends or ends != sorted(ends) or not math.isclose(ends[-1], 1):
            raise InvalidRequest("recipe: the phases' `until` must rise, and the last one is 1", field="recipe")

    def phase_at(self, share: float) -> tuple[int, float]:
        """Which phase it is when this share of the time is spent, and how much of the phase."""
        starts = (0.0, *(phase.until for phase in self.phases))
        index = next((k for k, phase in enumerate(self.phases) if share < phase.until), len(self.phases) - 1)
        return index, (share - starts[index]) / (starts[index + 1] - starts[index])


def pocket_recipe() -> DistillRecipe:
    """For the built-in model, on two CPU cores in two or three hours.

    First the student learns the teacher's cached ways, which is steep and free of noise, and, where its own
    sampler asks, to agree with the teacher's next step. Then it learns to walk straight to their ends, as its sampler
    does, so that each noise keeps its clip. docs/distillation.md tells why.
    """
    return DistillRecipe(
        phases=(
            Phase(0.7, {"trajectory": Part(8), "consistency": Part(2, 0.5)}, rate=1.5e-3),
            Phase(1.0, {"straight": Part(5), "trajectory": Part(2)}, rate=8e-4),
        ),
        sampler="rcm-ode",
        sizes=(Size(96, 96, 33, 0.9), Size(144, 80, 33, 0.1)),
    )


def large_recipe() -> DistillRecipe:
    """For large models on several GPUs, with the published numbers of rCM for Wan 2.1 1.3B.

    Continuous consistency needs forward-mode derivatives; the discrete one runs with every attention kernel.
    """
    return DistillRecipe(
        phases=(
            Phase(0.2, {"consistency": Part(1)}, rate=1e-5, momentum=0.9),
            Phase(
                1.0,
                {"match": Part(1), "consistency": Part(1)},
                rate=2e-6,
                momentum=0.0,
                critic_rate=4e-7,
                critic_steps=4,
                critic_first=20,
            ),
        ),
        optimizer="adamw",
        weight_decay=0.01,
        num_clips=256,
        average_decay=0.999,
        gradient_checkpointing=True,
        minutes=24 * 60,
    )


RECIPES = {"pocket": pocket_recipe, "large": large_recipe}


def read_recipe(path: Path, *, base: DistillRecipe) -> DistillRecipe:
    """A recipe in JSON; what it leaves out is as in `base`. Raises InvalidRequest that names the key at fault."""
    import json
    from dataclasses import asdict

    from pydantic import TypeAdapter, ValidationError

    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"--recipe: {path} is not JSON that can be read: {error}", field="recipe") from None
    if not isinstance(given, dict) or (foreign := sorted(set(given) - set(asdict(base)))):
        names = ", ".join(asdict(base))
        what = f"has no key {foreign[0]!r}" if isinstance(given, dict) else "is no object"
        raise InvalidRequest(f"--recipe: {path}: the recipe {what}; there are {names}", field="recipe")
    try:
        return TypeAdapter(DistillRecipe).validate_python({**asdict(base), **given})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidRequest(f"--recipe: {path}: {where}: {first['msg']}", field="recipe") from None
