"""Which models there are: /v1/models in OpenAI's shape, /api/v1/models with all that is known."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel
from starlette.responses import Response

from homereel.core.errors import UnknownModel
from homereel.models.model_list import ModelInfo, list_models
from homereel.models.registry import default_model
from homereel.server.errors import ErrorAnswer, answer, refuse

router = APIRouter(tags=["models"], responses={"4XX": {"model": ErrorAnswer}})


class Model(BaseModel):
    """One model that can be used here."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(BaseModel):
    """Every model that can be used here."""

    object: Literal["list"]
    data: list[Model]


class AllModels(BaseModel):
    """Every model that is known, also those that are not on this machine."""

    models: list[dict[str, Any]]
    default: str


@router.get("/v1/models", response_model=ModelList)
def usable_models() -> Response:
    """The models that are installed and can be run, the default one first."""
    default = default_model()
    able = sorted(_usable(), key=lambda model: model.id != default)
    return answer({"object": "list", "data": [_object(model) for model in able]})


@router.get("/v1/models/{model}", response_model=Model)
def one_model(model: Annotated[str, Path(max_length=200)]) -> Response:
    """One of them, by its id or another of its names."""
    for known in _usable():
        if model == known.id or model in known.aliases:
            return answer(_object(known))
    message = str(UnknownModel(f"there is no model {model[:60]!r} here; /v1/models lists those that are"))
    return refuse(404, message, code="unknown_model", param="model")


@router.get("/api/v1/models", response_model=AllModels)
def all_models() -> Response:
    """Every model that is known: what it takes, its licence, its standard clip, whether it is here."""
    return answer({"models": [_all_of(model) for model in list_models()], "default": default_model()})


def _usable() -> list[ModelInfo]:
    return [model for model in list_models() if model.installed and model.supported]


def _object(model: ModelInfo) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": 0, "owned_by": model.family}


def _all_of(model: ModelInfo) -> dict[str, Any]:
    licence, defaults = model.licence.model_dump(mode="json"), model.defaults.model_dump(mode="json")
    return {**asdict(model), "licence": licence, "defaults": defaults}
