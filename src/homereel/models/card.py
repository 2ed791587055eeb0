"""What is told of a model: the catalogue holds cards, and a model's own folder may amend them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from homereel.core.errors import WeightsError
from homereel.core.model import Defaults
from homereel.core.request import SamplerName, SigmaMax, Sigmas
from homereel.weights.model_folder import read_json

CARD_FILE = "homereel.json"
# Settings that not every model has.
_OPTIONAL = ("guidance_2", "sigma_max", "sigmas", "passes", "passes_from_tokens")


class _Card(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Licence(_Card):
    """Under what terms a model may be used; anything but "open" restricts the user."""

    name: str
    kind: Literal["open", "regional", "revenue", "non-commercial", "unknown"]
    url: str = ""
    terms: str = ""  # in a line, what restricts the user

    @property
    def restricts(self) -> bool:
        """Whether its terms must be accepted before a download."""
        return self.kind != "open"


class ClipCard(_Card):
    """The standard clip and suitable settings; in homereel.json any of them may be left out."""

    width: int | None = Field(default=None, ge=1)
    height: int | None = Field(default=None, ge=1)
    num_frames: int | None = Field(default=None, ge=1)
    fps: float | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, ge=1)
    guidance: float | None = Field(default=None, ge=1)
    guidance_2: float | None = Field(default=None, ge=1)  # for the second expert
    shift: float | None = Field(default=None, gt=0)
    sampler: SamplerName | None = None
    sigma_max: SigmaMax | None = None  # where a student of rCM starts
    sigmas: Sigmas | None = None  # times of its own, the last one 0
    passes: tuple[str, ...] | None = None  # that it was trained with, in the words that choose them
    passes_from_tokens: int | None = Field(default=None, ge=0)  # shorter clips are made without them

    def over(self, defaults: Defaults) -> Defaults:
        """These values, and `defaults` where one is left out."""
        return Defaults(**{**defaults.__dict__, **self.model_dump(exclude_none=True)})

    def settled(self) -> Defaults:
        """The same with nothing left out, as the card of a model that can run has it."""
        values = self.model_dump(exclude_none=True)
        left_out = ClipCard.model_fields.keys() - values.keys() - set(_OPTIONAL)
        assert not left_out, f"left out: {sorted(left_out)}"
        return Defaults(**values)


class FolderCard(_Card):
    """homereel.json, beside model_index.json: what training knows of its model. Every key may be left out."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    title: str = ""
    licence: Licence | None = None
    defaults: ClipCard = ClipCard()
    max_sequence_length: int | None = Field(default=None, ge=1, le=4096)
    words: dict[str, tuple[str, ...]] = {}
    examples: tuple[str, ...] = ()
    student: str = ""  # a model that was distilled from this one: a folder, from here, or an id


Task = Literal[
    "text-to-video",
    "image-to-video",
    "first-last-to-video",
    "keyframes-to-video",
    "video-to-video",
    "control-to-video",
]
# Which tasks a kind of input serves.
TASKS_WITH: dict[str, tuple[Task, ...]] = {
    "text": ("text-to-video",),
    "image": ("image-to-video", "first-last-to-video", "keyframes-to-video", "control-to-video"),
    "last": ("first-last-to-video", "keyframes-to-video", "control-to-video"),
    "keyframes": ("keyframes-to-video", "control-to-video"),
    "video": ("video-to-video", "control-to-video"),
    "mask": ("control-to-video",),
    "references": ("control-to-video",),
}


class ModelCard(_Card):
    """One entry of the catalogue. `download_bytes` is 0 for what comes with the package; None is not known."""

    id: str
    aliases: tuple[str, ...] = ()  # such as a family's bare name, which means this one of its models
    family: str
    title: str
    tasks: tuple[Task, ...]
    sound: bool = False
    licence: Licence
    repo: str  # on the hub, or empty
    gated: bool = False  # the hub asks who you are before it gives the files
    pickled: bool = False  # the repository has no safetensors files
    extra_parts: tuple[str, ...] = ()  # folders beside those of its index that are fetched
    unused_parts: tuple[str, ...] = ()  # components of its index that homereel has no use for
    download_bytes: int | None
    vram_bytes: int | None = None  # the least with which its makers say it runs
    open_vocabulary: bool
    max_sequence_length: int | None
    defaults: ClipCard
    rank: int  # the default is the installed model of the highest rank
    supported: bool = False  # its family can run it
    student: str = ""  # the id of one that was distilled from it


def read_folder_card(folder: Path) -> FolderCard:
    """The folder's homereel.json, or an empty card. Raises WeightsError that names the key at fault."""
    path = folder / CARD_FILE
    if not path.is_file():
        return FolderCard()
    content: dict[str, Any] = read_json(path)
    try:
        return FolderCard.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise WeightsError(f"{path}: {where}: {first['msg']}") from None
