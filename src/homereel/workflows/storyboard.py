"""A film of several shots, written down in one file: shared style, references and seed policy, and a list of shots.

title = "A ball's day"                    # TOML; JSON and YAML say the same
model = "pocket"
style = "cinematic"                       # goes into every prompt
seed = 7
seed_policy = "count"                     # count: 7, 8, 9 ...; same: 7 for all; free: a fresh one each

[settings]                                # any further fields of a request, for all shots
steps = 20

[[shots]]
prompt = "a red ball bounces on a green floor"

[[shots]]
subject = "a red ball"                    # or the parts of a prompt
action = "rolls left"
scene = "on a green floor"
continues = true                          # goes on where the shot before ended; otherwise there is a cut
"""

from __future__ import annotations

import json
import secrets
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from homereel.core.errors import InvalidRequest, UnreadableMedia
from homereel.core.request import MAX_SEED, Request
from homereel.workflows.extend import extend
from homereel.workflows.prompts import PromptFields, Write, expand_prompt
from homereel.workflows.step import Made, Step

MAX_BYTES = 1_000_000
_PARTS = tuple(PromptFields.model_fields)


class Shot(BaseModel):
    """One shot: a prompt or its parts, and what is its own. `settings` are fields of a request."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_strip_whitespace=True)

    name: Annotated[str, Field(max_length=100)] = ""
    prompt: str = ""
    subject: str = ""
    action: str = ""
    scene: str = ""
    camera: str = ""
    lens: str = ""
    light: str = ""
    style: str = ""
    sound: str = ""
    seconds: Annotated[float, Field(gt=0, le=3_600)] | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    image: Path | None = None
    references: tuple[Path, ...] = ()
    continues: bool = False
    settings: dict[str, Any] = {}

    @model_validator(mode="after")
    def _says_what_is_seen(self) -> Self:
        if bool(self.prompt) == bool(self.subject):
            raise ValueError("a shot has either a prompt, or a subject with its other parts")
        if self.continues and self.image is not None:
            raise ValueError("a shot that continues takes no picture; leave image out, or continues")
        return self


class Storyboard(BaseModel):
    """A film: what all shots share, and the shots in order."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_strip_whitespace=True)

    title: Annotated[str, Field(max_length=200)] = ""
    model: str | None = None
    style: str = ""
    negative_prompt: str = ""
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    seed_policy: Literal["same", "count", "free"] = "count"
    references: tuple[Path, ...] = ()
    settings: dict[str, Any] = {}
    shots: Annotated[tuple[Shot, ...], Field(min_length=1, max_length=500)]

    @model_validator(mode="after")
    def _begins_somewhere(self) -> Self:
        if self.shots[0].continues:
            raise ValueError("the first shot has nothing to continue; leave continues out there")
        return self

    @classmethod
    def parse(cls, data: object) -> Self:
        """From untrusted data. Raises InvalidRequest that names the shot and the field."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part + 1) if isinstance(part, int) else part for part in first["loc"])
            message = str(first["msg"]).removeprefix("Value error, ")
            raise InvalidRequest(f"storyboard: {where + ': ' if where else ''}{message}", field="storyboard") from None


@dataclass(frozen=True)
class Cut:
    """One piece of the film: the clip of this step, without so many frames at its start that the last piece shows."""

    name: str
    skip_frames: int = 0


def read_storyboard(path: str | Path) -> Storyboard:
    """A .toml, .json, .yaml or .yml file; files that it names lie beside it. Raises UnreadableMedia, InvalidRequest."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnreadableMedia(f"{path.name} cannot be read: {error.strerror or error}") from None
    if len(content) > MAX_BYTES:
        raise UnreadableMedia(f"{path.name} has more than {MAX_BYTES:,} bytes; a storyboard is a short text")
    data = _decoded(content, path)
    board = Storyboard.parse(data)
    beside = path.parent
    shots = tuple(
        shot.model_copy(
            update={
                "image": None if shot.image is None else beside / shot.image,
                "references": tuple(beside / reference for reference in shot.references),
            }
        )
        for shot in board.shots
    )
    references = tuple(beside / reference for reference in board.references)
    return board.model_copy(update={"shots": shots, "references": references})


def storyboard(board: Storyboard, *, write: Write | None = None) -> tuple[Step, ...]:
    """One step a shot, in order. A shot that continues comes from the one before and holds it, where its model can go
    on from latents; `film_cuts` says which clips make the film. `write` may be a language model for the prompts.

    Raises InvalidRequest (with the shot's number), UnsupportedInput, UnknownModel or WeightsError.
    """
    steps: list[Step] = []
    seeds = _seeds(board)
    for number, (shot, seed) in enumerate(zip(board.shots, seeds, strict=True), start=1):
        try:
            request = _request(board, shot, seed=seed, write=write)
            step = Step(name=shot.name or f"shot-{number}", request=request)
            steps.append(_continued(steps[-1], step, shot) if shot.continues else step)
        except InvalidRequest as error:
            error.args = (f"shot {number}: {error}",)
            raise
    names = [step.name for step in steps]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidRequest(f"two shots are named {twice!r}; give each its own name, or none", field="storyboard")
    _check_one_look(steps)
    return tuple(steps)


def film_cuts(steps: Sequence[Step]) -> tuple[Cut, ...]:
    """Which clips make the film: one that the next shot holds is left out; of one that starts from the last picture of
    the one before, the first frame is."""
    cuts: list[Cut] = []
    for step in steps:
        if step.holds_parent and cuts and cuts[-1].name == step.parent:
            cuts[-1] = Cut(step.name, skip_frames=cuts[-1].skip_frames)
        else:
            cuts.append(Cut(step.name, skip_frames=1 if step.takes == "image" else 0))
    return tuple(cuts)


def _check_one_look(steps: Sequence[Step]) -> None:
    """Raises InvalidRequest before any shot is made if they could not be cut together."""
    from homereel.models.registry import model_facts

    looks = []
    for step in steps:
        request, defaults = step.request, model_facts(step.request.model).defaults
        width, height = request.width or defaults.width, request.height or defaults.height
        looks.append(f"{width}x{height} at {request.fps or defaults.fps:g} fps")
    other = next((index for index, look in enumerate(looks) if look != looks[0]), None)
    if other is not None:
        raise InvalidRequest(
            f"{steps[other].name} would be {looks[other]}, and {steps[0].name} {looks[0]}; a film has one size and "
            "pace: say width, height and fps under settings",
            field="storyboard",
        )


def _decoded(content: bytes, path: Path) -> object:
    ending = path.suffix.lower()
    try:
        text = content.decode("utf-8-sig")
        if ending == ".toml":
            return tomllib.loads(text)
        if ending == ".json":
            return json.loads(text)
        if ending in (".yaml", ".yml"):
            return _yaml(text)
    except (ValueError, RecursionError) as error:  # all three decoders' complaints are ValueErrors
        raise UnreadableMedia(f"{path.name} is no {ending[1:].upper()}: {error}".replace("\n", " ")) from None
    raise UnreadableMedia(f"{path.name} is no storyboard; give a .toml, .json or .yaml file")


def _yaml(text: str) -> object:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _seeds(board: Storyboard) -> list[int]:
    first = secrets.randbelow(MAX_SEED) if board.seed is None else board.seed
    seeds = []
    for index, shot in enumerate(board.shots):
        drawn = {"same": first, "count": (first + index) % (MAX_SEED + 1), "free": secrets.randbelow(MAX_SEED)}
        seeds.append(drawn[board.seed_policy] if shot.seed is None else shot.seed)
    return seeds


def _request(board: Storyboard, shot: Shot, *, seed: int, write: Write | None) -> Request:
    from homereel.models.registry import model_facts

    settings = {**board.settings, **shot.settings}
    model = model_facts(settings.pop("model", board.model))
    if shot.prompt:
        style = shot.style or board.style
        prompt = f"{shot.prompt}, {style}" if style else shot.prompt
    else:
        parts = {name: getattr(shot, name) for name in _PARTS}
        prompt = expand_prompt(PromptFields(**{**parts, "style": shot.style or board.style}), model=model, write=write)
    given: dict[str, Any] = {
        "prompt": prompt,
        "model": model.model,
        "seed": seed,
        "negative_prompt": board.negative_prompt or None,
        "seconds": shot.seconds,
        "image": shot.image,
        "references": (*board.references, *shot.references) or None,
    }
    return Request.parse({**settings, **{name: value for name, value in given.items() if value is not None}})


def _continued(before: Step, step: Step, shot: Shot) -> Step:
    """The shot as what comes after the one before."""
    made: Made = before.made()
    asked = step.request
    went_on = extend(
        made,
        seconds=shot.seconds,
        prompt=asked.prompt,
        seed=asked.seed,
        steps=asked.steps,
        model=asked.model,
    )
    return Step(
        name=step.name,
        request=went_on.request,
        parent=before.name,
        relation="extension",
        takes=went_on.takes,
        notes=went_on.notes,
    )
