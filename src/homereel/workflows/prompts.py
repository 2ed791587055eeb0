"""From the parts of a shot to the prompt that a model wants: one plain sentence, or the long description that large
models were trained on.

The templates put words in order and invent nothing: what is not given is not said. `write` may be a language model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from homereel.core.errors import InvalidRequest
from homereel.core.protocols import ModelFacts

_Words = Annotated[str, Field(max_length=2_000)]
Write = Callable[[str], str]
"""An instruction in, the prompt out."""


class PromptFields(BaseModel):
    """What a director says of a shot; only the subject must be there. Raises InvalidRequest, never pydantic's error."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    subject: _Words
    action: _Words = ""
    scene: _Words = ""
    camera: _Words = ""
    lens: _Words = ""
    light: _Words = ""
    style: _Words = ""
    sound: _Words = ""

    if not TYPE_CHECKING:  # the checker keeps pydantic's typed keywords

        def __init__(self, **data: object) -> None:
            try:
                super().__init__(**data)
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                field = str(first["loc"][0]) if first["loc"] else ""
                raise InvalidRequest(f"{field}: {first['msg']}", field=field) from None


def expand_prompt(fields: PromptFields, *, model: ModelFacts, write: Write | None = None) -> str:
    """The English prompt for this model.

    A model of few words gets one sentence in its own; others get sentences in the order in which their makers wrote
    captions. Sound is said only to models that make it. With `write`, a language model gets the parts and the
    instruction, and what it answers is taken. Raises InvalidRequest if there is no subject, or the answer is empty.
    """
    if not fields.subject:
        raise InvalidRequest("subject: it is empty; say who or what is seen, such as a red ball", field="subject")
    if write is None:
        return _one_sentence(fields) if model.vocabulary() else _described(fields, with_sound=model.makes_sound)
    written = " ".join(write(_instruction(fields, model=model)).split()).strip("\"'`“” ")
    if not written:
        raise InvalidRequest("the language model wrote nothing; use the plain template, or another model")
    return written


def _one_sentence(fields: PromptFields) -> str:
    """As pocket's captions go: a red ball bounces on a green floor at night, the camera pans left."""
    body = " ".join(part for part in (fields.subject, fields.action, fields.scene, fields.light) if part)
    camera = f", {fields.camera}" if fields.camera else ""
    return f"{body}{camera}"


def _described(fields: PromptFields, *, with_sound: bool) -> str:
    """Subject and action first, the place, then how it is seen, as captions of large models go."""
    sentences = [
        " ".join(part for part in (fields.subject, fields.action) if part),
        fields.scene,
        _told("The camera", fields.camera, known=("camera", "shot", "view", "pan", "zoom", "dolly", "track")),
        _told("Shot with", fields.lens, known=("shot", "lens", "filmed")),
        _told("Lit by", fields.light, known=("light", "lit", "dark", "shadow", "night", "day", "sun")),
        _told("The style is", fields.style, known=("style", "film", "footage", "animation", "look")),
        _told("The sound is", fields.sound, known=("sound", "hear", "music", "voice", "says")) if with_sound else "",
    ]
    return " ".join(_sentence(text) for text in sentences if text)


def _told(opening: str, words: str, *, known: tuple[str, ...]) -> str:
    """The words as they are where they say themselves what they are about."""
    if not words or any(word in words.lower() for word in known):
        return words
    return f"{opening} {words}"


def _sentence(text: str) -> str:
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".!?…" else f"{text}."


def _instruction(fields: PromptFields, *, model: ModelFacts) -> str:
    """What a language model is asked to do."""
    parts = "\n".join(f"{name}: {value}" for name, value in fields.model_dump().items() if value)
    words = model.vocabulary()
    if words:
        form = f"Write one short sentence in the present tense. Use only these words: {' '.join(words)}"
    else:
        sound = "say what is heard, and " if model.makes_sound else ""
        form = (
            "Write one paragraph of 80 to 120 words in plain English, in the present tense. Begin with the subject and "
            "what it does, then the place, the camera and the light; "
            f"{sound}describe only what can be seen, and add no event that is not named"
        )
    return f"You write the prompt of one shot for a video model.\n{form}.\nAnswer with the prompt alone.\n\n{parts}\n"
