"""What is told of a model: the catalogue holds cards, and a model's own folder may amend them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from homereel.core.errors import WeightsError
from homereel.core.model import Defaults
from homereel.weights.model_folder import read_json

CARD_FILE = "homereel.json"


class _Card(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Licence(_Card):
    """Under what terms a model may be used; anything but "open" restricts the user."""

    name: str
    kind: Literal["open", "regional", "revenue", "non-commercial", "unknown"]
    url: str = ""


class ClipCard(_Card):
    """The standard clip and suitable settings; in homereel.json any of them may be left out."""

    width: int | None = Field(default=None, ge=1)
    height: int | None = Field(default=None, ge=1)
    num_frames: int | None = Field(default=None, ge=1)
    fps: float | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, ge=1)
    guidance: float | None = Field(default=None, ge=1)
    shift: float | None = Field(default=None, gt=0)
    sampler: Literal["unipc", "euler"] | None = None

    def over(self, defaults: Defaults) -> Defaults:
        """These values, and `defaults` where one is left out."""
        return Defaults(**{**defaults.__dict__, **self.model_dump(exclude_none=True)})


class FolderCard(_Card):
    """homereel.json, beside model_index.json: what training knows of its model. Every key may be left out."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    title: str = ""
    licence: Licence | None = None
    defaults: ClipCard = ClipCard()
    max_sequence_length: int | None = Field(default=None, ge=1, le=4096)
    words: dict[str, tuple[str, ...]] = {}
    examples: tuple[str, ...] = ()


class ModelCard(_Card):
    """One entry of the catalogue. `download_bytes` is 0 for what comes with the package."""

    id: str
    family: str
    title: str
    tasks: tuple[Literal["text-to-video", "image-to-video"], ...]
    licence: Licence
    repo: str
    download_bytes: int
    open_vocabulary: bool
    max_sequence_length: int
    defaults: Defaults
    rank: int  # the default is the installed model of the highest rank


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
