"""What is wanted, checked once at the edge: past here a request is sound, though perhaps off the grid."""

from __future__ import annotations

import difflib
import itertools
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from homereel.core.errors import InvalidRequest

MAX_PROMPT_CHARACTERS = 10_000
MAX_SEED = 2**32 - 1
MAX_STEPS = 1_000

# pydantic's words for what would be right, in ours.
_PLAIN_WORDS = {
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_parsing", "float_type"), "a number"),
    **dict.fromkeys(("path_type", "string_type"), "text"),
    "finite_number": "a finite number",
    "string_too_short": "a name",
    "string_too_long": "a shorter name",
}
_SHORTER = {
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "more than",
}


def _falling(sigmas: tuple[float, ...]) -> tuple[float, ...]:
    falls = all(later < earlier for earlier, later in itertools.pairwise(sigmas))
    if not 2 <= len(sigmas) <= MAX_STEPS + 1 or sigmas[0] > 1 or sigmas[-1] != 0 or not falls:
        raise ValueError(f"{_short(sigmas)} does not fall from at most 1 to 0, as 0.99,0.93,0.85,0.61,0 does")
    return sigmas


SamplerName = Literal["unipc", "euler", "rcm", "rcm-ode"]
SigmaMax = Annotated[float, Field(ge=15, le=10_000)]
Sigmas = Annotated[tuple[float, ...], AfterValidator(_falling)]
_PassText = Annotated[str, Field(min_length=1, max_length=1_000)]
_Side = Annotated[int, Field(ge=1, le=16_384)]


class KeyPicture(BaseModel):
    """A picture that the clip shall show at a time, given in seconds or as the number of a frame."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    image: Path
    seconds: Annotated[float, Field(ge=0, le=3_600)] | None = None
    frame: Annotated[int, Field(ge=0, le=100_000)] | None = None

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        if (self.seconds is None) == (self.frame is None):
            raise ValueError("a keyframe needs its time: either seconds or frame, not both")
        return self

    def frame_at(self, fps: float) -> int:
        """The frame of the clip that it is for."""
        return self.frame if self.frame is not None else round((self.seconds or 0) * fps)


class LoraUse(BaseModel):
    """A LoRA file and how strongly it acts; `expert` says on which half of a model with two, None lets its name say."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    path: Path
    strength: Annotated[float, Field(ge=-10, le=10)] = 1.0
    expert: Literal["high", "low"] | None = None


class Request(BaseModel):
    """A wish for one clip. What is None is decided by the model's own defaults.

    Raises InvalidRequest, never pydantic's error, with the field at fault in `.field`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    prompt: str
    negative_prompt: str = ""
    model: Annotated[str, Field(min_length=1, max_length=1_000)] | None = None
    width: _Side | None = None
    height: _Side | None = None
    num_frames: Annotated[int, Field(ge=1, le=100_000)] | None = None
    seconds: Annotated[float, Field(gt=0, le=3_600)] | None = None
    fps: Annotated[float, Field(ge=1, le=240)] | None = None
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] | None = None
    guidance: Annotated[float, Field(ge=1, le=100)] | None = None
    shift: Annotated[float, Field(gt=0, le=100)] | None = None
    sampler: SamplerName | None = None
    sigma_max: SigmaMax | None = None  # how much noise a student of rCM starts from
    sigmas: Sigmas | None = None  # times of one's own, or one text with commas between; the last is 0
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    image: Path | None = None  # the first frame
    last: Path | None = None  # the last frame
    keyframes: Annotated[tuple[KeyPicture, ...], Field(max_length=64)] = ()
    video: Path | None = None  # footage to start from
    strength: Annotated[float, Field(gt=0, le=1)] | None = None  # how much of the footage is made anew
    mask: Path | None = None  # which part of it: white is made anew
    refine: Path | None = None  # a clip made here, or its kept latents, to be made anew from, as far as strength says
    extend: Path | None = None  # such a clip to go on from; the new one holds it, and num_frames counts both
    extend_from: Annotated[int, Field(ge=1, le=100_000)] | None = None  # so many of its frames are kept; else all
    references: Annotated[tuple[Path, ...], Field(max_length=16)] = ()
    sound: bool = True  # where the model can
    loras: Annotated[tuple[LoraUse, ...], Field(max_length=16)] = ()
    passes: Annotated[tuple[_PassText, ...], Field(max_length=16)] = ()  # or one text, with commas between
    turbo: Literal["off", "safe", "max"] | None = None  # chooses passes that pay on this machine

    if not TYPE_CHECKING:  # the checker keeps pydantic's typed keywords

        def __init__(self, **data: object) -> None:
            try:
                super().__init__(**data)
            except ValidationError as error:
                raise _one_line(error) from None

    @classmethod
    def parse(cls, data: Mapping[str, object]) -> Self:
        """Make a request from untrusted keys and values; an unknown key is refused with its nearest name."""
        return cls(**data)  # type: ignore[arg-type]  # checked by pydantic

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """The request's shape as JSON Schema."""
        return cls.model_json_schema()

    def replace(self, **changes: object) -> Self:
        """The same request with some fields changed, checked again."""
        return self.parse({**self.model_dump(), **changes})

    @field_validator("prompt", "negative_prompt", mode="before")
    @classmethod
    def _clean(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if len(value) > MAX_PROMPT_CHARACTERS:
            raise ValueError(f"{len(value)} characters; at most {MAX_PROMPT_CHARACTERS} are allowed: shorten it")
        return _clean_text(value)

    @field_validator("prompt")
    @classmethod
    def _say_something(cls, value: str) -> str:
        if not value:
            raise ValueError('it is empty; describe what to see, such as "a red ball bounces on a green floor"')
        return value

    @field_validator("passes", "sigmas", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @model_validator(mode="after")
    def _one_way_to_be_fast(self) -> Self:
        if self.passes and self.turbo not in (None, "off"):
            raise ValueError("passes and turbo both say how to be fast; keep one of them")
        return self

    @field_validator("image", "last", "video", "mask", "refine", "extend", mode="before")
    @classmethod
    def _one_file(cls, value: object) -> object:
        if isinstance(value, (str, Path)) and (str(value).strip() in ("", ".") or "\0" in str(value)):
            raise ValueError("it names no file; give the path of one")
        return value

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.seconds is not None and self.num_frames is not None:
            raise ValueError("seconds and num_frames both give the length; keep one of them")
        return self

    @model_validator(mode="after")
    def _one_way_to_give_times(self) -> Self:
        if self.sigmas is not None and self.steps not in (None, len(self.sigmas) - 1):
            raise ValueError(f"sigmas are the times of {len(self.sigmas) - 1} steps, and steps says {self.steps}")
        if self.sigmas is not None and self.sigma_max is not None:
            raise ValueError("sigmas and sigma_max both say where to start; keep one of them")
        return self

    @model_validator(mode="after")
    def _footage_for_its_settings(self) -> Self:
        if self.strength is not None and self.video is None and self.refine is None:
            raise ValueError("strength says what happens to footage; give the footage as video, too")
        if self.mask is not None and self.video is None and self.image is None:
            raise ValueError("mask says what happens to footage; give the footage as video, too")
        return self

    @model_validator(mode="after")
    def _one_clip_to_start_from(self) -> Self:
        given = [name for name in ("video", "refine", "extend") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} each say what to start from; keep one of them")
        if self.extend is not None and (self.image is not None or self.last is not None or self.keyframes):
            raise ValueError("a clip that goes on from another takes no pictures of its own; leave them out")
        if self.extend_from is not None and self.extend is None:
            raise ValueError("extend_from says how much of a clip is kept; give the clip as extend, too")
        return self

    @property
    def given(self) -> tuple[str, ...]:
        """The kinds of input that are given besides words, as a model's `inputs` name them."""
        kinds = ("image", "last", "keyframes", "video", "mask", "references", "refine", "extend")
        return tuple(kind for kind in kinds if getattr(self, kind))


def _clean_text(text: str) -> str:
    """Drop control characters and broken halves of characters; any run of white space becomes one space."""
    kept = (" " if character in "\n\r\t" else character for character in text)
    shown = (character for character in kept if unicodedata.category(character) not in ("Cc", "Cs"))
    return " ".join("".join(shown).split())


def _one_line(error: ValidationError) -> InvalidRequest:
    """The first complaint in one line: the field, what is wrong with it, what is allowed."""
    complaint = error.errors(include_url=False)[0]
    field = str(complaint["loc"][0]) if complaint["loc"] else ""
    if complaint["type"] == "extra_forbidden":
        return InvalidRequest(_unknown_field(field), field=field[:100])
    if complaint["type"] == "missing":
        return InvalidRequest(f"{field}: it is missing; give one", field=field)
    message = str(complaint["msg"]).removeprefix("Value error, ")
    if complaint["type"] == "value_error":
        return InvalidRequest(f"{field}: {message}" if field else message, field=field)
    return InvalidRequest(
        f"{field}: {_short(complaint['input'])} is not allowed; give {_allowed(complaint['type'], message)}",
        field=field,
    )


def _allowed(kind: str, message: str) -> str:
    """What would be right, in plain words."""
    if kind in _PLAIN_WORDS:
        return _PLAIN_WORDS[kind]
    message = message.removeprefix("Input should be ")
    for long, short in _SHORTER.items():
        message = message.replace(long, short)
    return message


def _unknown_field(field: str) -> str:
    names = list(Request.model_fields)
    nearest = difflib.get_close_matches(field, names, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else "allowed are " + ", ".join(names)
    return f"{_short(field)} is no field of a request; {hint}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
