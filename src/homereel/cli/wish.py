"""From the words of the command line to checked requests, one for each clip, and the files they go to."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from homereel.cli.limits import NO_LIMITS, Limits
from homereel.cli.prompt import read_prompt
from homereel.cli.size import read_size
from homereel.cli.targets import name_targets
from homereel.core.errors import InvalidRequest

if TYPE_CHECKING:
    from homereel.core.protocols import ModelFacts
    from homereel.core.request import Request

_OPTIONS = {
    "num_frames": "frames",
    "negative_prompt": "negative",
    "keyframes": "keyframe",
    "references": "reference",
    "loras": "lora",
    "sigma_max": "sigma-max",
}
# Wishes that a student does not understand.
_TEACHERS_OWN = ("sampler", "guidance", "shift", "sigmas")


@dataclass(frozen=True)
class Wish:
    """What was typed. `fields` are those of a Request, by their names there; None is what was not given."""

    prompt: str
    size: str | None
    num_clips: int
    output: str | None
    quality: int | None
    sidecar: bool
    private: bool
    fields: Mapping[str, Any]
    limits: Limits = NO_LIMITS


@dataclass(frozen=True)
class Job:
    """One clip to make, and where to. An automatic target gets another name if it is taken by then."""

    request: Request
    target: str


def plan_jobs(wish: Wish) -> list[Job]:
    """Check everything that can be checked before torch is there: a wrong wish costs nobody time.

    Raises InvalidRequest, UnknownModel, WeightsError or UnwritableTarget.
    """
    from homereel.media import check_target
    from homereel.models.registry import model_facts

    first = read_request(wish)
    first = with_size(first, wish, facts=model_facts(first.model))
    requests = [first.replace(seed=seed) for seed in _seeds(first, count=wish.num_clips)]
    seeds = [request.seed or 0 for request in requests]
    targets = name_targets(wish.output, prompt=first.prompt, seeds=seeds)
    for target in targets:
        check_target(target)
    return [Job(request, target) for request, target in zip(requests, targets, strict=True)]


def read_request(wish: Wish) -> Request:
    """What is asked for, its size aside; of a student, where `--quality distilled` lets one stand in for its teacher.

    Raises InvalidRequest that names the option at fault.
    """
    from homereel.core.request import Request

    fields = {name: value for name, value in wish.fields.items() if value is not None}
    try:
        request = Request.parse({"prompt": read_prompt(wish.prompt), **fields})
    except InvalidRequest as error:
        raise in_options(error) from None
    return _by_student(request) if wish.limits.quality == "distilled" else request


def _by_student(request: Request) -> Request:
    """The same of the model's student, if one is here and nothing was asked for that only the teacher has."""
    from homereel.core.student_times import MAX_STEPS
    from homereel.models.students import student_of

    many = request.steps is not None and request.steps > MAX_STEPS
    if many or request.loras or any(getattr(request, name) is not None for name in _TEACHERS_OWN):
        return request
    student = student_of(request.model)
    return request if student is None else request.replace(model=student)


def with_size(request: Request, wish: Wish, *, facts: ModelFacts) -> Request:
    """The same in the size that was typed, which may depend on the model."""
    if wish.size is None:
        return request
    width, height = read_size(wish.size, grid=facts.grid, defaults=facts.defaults)
    return request.replace(width=width, height=height)


def _seeds(request: Request, *, count: int) -> range:
    from homereel.core.request import MAX_SEED

    first = secrets.randbelow(MAX_SEED + 2 - count) if request.seed is None else request.seed
    last = first + count - 1
    if last > MAX_SEED:
        raise InvalidRequest(
            f"--seed: {count} clips from seed {first} would need seed {last}; the highest is {MAX_SEED}",
            field="seed",
        )
    return range(first, last + 1)


def in_options(error: InvalidRequest) -> InvalidRequest:
    """The same complaint, naming the option where it named the field of a request."""
    field, message = error.field, str(error)
    if field == "prompt" or not message.startswith(f"{field}: "):
        return error
    option = "--" + _OPTIONS.get(field, field)
    return InvalidRequest(option + message.removeprefix(field), field=field)
