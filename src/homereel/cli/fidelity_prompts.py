"""What `homereel fidelity` asks a model for: the given prompts, or ones that suit the model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING

from homereel.core.errors import InvalidRequest

if TYPE_CHECKING:
    from homereel.engine.fidelity import Subject

DEFAULT_PROMPTS = 8
# Far and near, still and moving, hard edges and water, day and night, people and none.
PROMPTS = (
    "A lighthouse on a cliff at dusk, waves break against the rocks, the beam turns slowly",
    "Close-up of a potter's hands shaping wet clay on a spinning wheel, warm light from a window",
    "A cyclist rides through a rainy street at night, neon signs shimmer in the puddles",
    "A red fox trots over fresh snow between birches, its breath steaming in the cold",
    "Steam rises from a cup of black tea on a wooden table, morning sun, shallow depth of field",
    "Aerial view of a winding mountain road, a single yellow car drives through autumn woods",
    "An old clockmaker opens a pocket watch, tiny brass gears turn, macro shot",
    "Children run with paper kites along a windy beach, long shadows, handheld camera",
    "A goldfish circles in a round glass bowl, light dances on the wall behind it",
    "Time lapse of clouds racing over a wheat field, the wheat sways in waves",
    "A woman in a blue coat laughs and turns towards the camera in a busy market",
    "A paper boat drifts down a gutter after rain, leaves float past, low angle",
)


def choose_subjects(
    *, prompts: Sequence[str], num: int | None, seed: int, vocabulary: Sequence[str]
) -> tuple[Subject, ...]:
    """So many clips (by default one a given prompt, else eight), each with a seed of its own, from `seed` on.

    A model of few words is asked for what its exam asks, others for the scenes above; few prompts come again and again.
    Raises InvalidRequest if the seeds do not suffice.
    """
    from homereel.core.request import MAX_SEED
    from homereel.engine.fidelity import Subject

    count = num or len(prompts) or DEFAULT_PROMPTS
    if seed + count - 1 > MAX_SEED:
        raise InvalidRequest(
            f"--seed: {count} clips from seed {seed} would need seed {seed + count - 1}; the highest is {MAX_SEED}",
            field="seed",
        )
    if not prompts:
        prompts = _exam_prompts(count) if vocabulary else PROMPTS
    texts = islice(cycle(prompts), count)
    return tuple(Subject(prompt=text, seed=seed + index) for index, text in enumerate(texts))


def _exam_prompts(count: int) -> tuple[str, ...]:
    from homereel.training.exam import make_questions

    return tuple(question.prompt for question in make_questions(count))
