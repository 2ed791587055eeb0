"""Many cheap tries: the same wish with other seeds and other words, small and in few steps."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from homereel.core.errors import InvalidRequest
from homereel.core.model import Defaults
from homereel.core.protocols import ModelFacts
from homereel.core.request import MAX_SEED, Request
from homereel.planning.grid import nearest_size
from homereel.workflows.step import Step

MAX_DRAFTS = 1_000
# A draft's sides and steps, against those of a finished clip; a model that needs few steps is left its own. Below the
# least area the sides stay: what was learnt at one small size falls apart at a smaller one.
SIDE_SHARE = 2 / 3
LEAST_AREA = 256 * 256
STEPS_SHARE = 0.3
FEW_STEPS = 8


@dataclass(frozen=True)
class DraftSettings:
    """What is cheap for a model: a third of the steps, and about two thirds of the sides where the clip is not small
    already. The length stays, for it is part of what is drafted."""

    width: int
    height: int
    steps: int


def drafts(
    request: Request,
    *,
    num: int = 4,
    prompts: Sequence[str] = (),
    width: int | None = None,
    height: int | None = None,
    steps: int | None = None,
    side_share: float | None = None,
) -> tuple[Step, ...]:
    """`num` seeds, one after the other, of each prompt: that of the request, and any `prompts` beside it.

    The same seed stands for every prompt, so that variants can be compared. Size and steps are those of
    `draft_settings` unless they are given; `side_share` says how long a draft's sides are against those of the finished
    clip (1: as long), also below the area where they would stay by themselves. Steps are named draft-1, draft-2, ...;
    raises InvalidRequest, UnknownModel or WeightsError.
    """
    from homereel.models.registry import model_facts

    words = list(dict.fromkeys([request.prompt, *(request.replace(prompt=prompt).prompt for prompt in prompts)]))
    if not 1 <= num * len(words) <= MAX_DRAFTS:
        raise InvalidRequest(
            f"{num} seeds of {len(words)} prompts are asked for; give 1 to {MAX_DRAFTS} drafts", field="num"
        )
    facts = model_facts(request.model)
    if side_share is not None and not 0.1 <= side_share <= 1:
        raise InvalidRequest(f"side_share is {side_share:g}; give 0.1 to 1, such as 0.5", field="side_share")
    cheap = draft_settings(request, facts=facts, side_share=side_share)
    size = _size(request, cheap, width=width, height=height)
    base = request.replace(model=facts.model, **size, **_steps(request, cheap, steps=steps))
    made = [(seed, prompt) for prompt in words for seed in seeds_from(request.seed, count=num)]
    if request.seed is None and len(words) > 1:
        made = [(made[index % num][0], prompt) for index, (_, prompt) in enumerate(made)]
    return tuple(
        Step(name=f"draft-{index}", request=base.replace(prompt=prompt, seed=seed))
        for index, (seed, prompt) in enumerate(made, start=1)
    )


def draft_settings(request: Request, *, facts: ModelFacts, side_share: float | None = None) -> DraftSettings:
    """The size and steps of a draft of this request."""
    defaults, grid = facts.defaults, facts.grid
    full = (request.width or defaults.width, request.height or defaults.height)
    area = full[0] * full[1]
    small = max(min(area, LEAST_AREA), area * SIDE_SHARE**2) if side_share is None else area * side_share**2
    width, height = nearest_size(full[0] / full[1], area=small, grid=grid)
    return DraftSettings(width=width, height=height, steps=_few(request.steps, defaults))


def seeds_from(first: int | None, *, count: int) -> range:
    """So many seeds one after the other, from a fresh one if none is given. Raises InvalidRequest past the highest."""
    start = secrets.randbelow(MAX_SEED + 2 - count) if first is None else first
    if start + count - 1 > MAX_SEED:
        raise InvalidRequest(
            f"seed: {count} clips from seed {start} would need seed {start + count - 1}; the highest is {MAX_SEED}",
            field="seed",
        )
    return range(start, start + count)


def _few(asked: int | None, defaults: Defaults) -> int:
    full = asked or defaults.steps
    return full if full <= FEW_STEPS else max(FEW_STEPS, round(full * STEPS_SHARE))


def _size(request: Request, cheap: DraftSettings, *, width: int | None, height: int | None) -> dict[str, int | None]:
    """A picture decides the proportions of its clip where no size is asked for: it then stays to the model."""
    if width is None and height is None and request.width is None and request.given:
        return {}
    return {"width": width or cheap.width, "height": height or cheap.height}


def _steps(request: Request, cheap: DraftSettings, *, steps: int | None) -> dict[str, int]:
    """Times that are given one by one decide the number of steps themselves."""
    return {} if request.sigmas is not None else {"steps": steps or cheap.steps}
