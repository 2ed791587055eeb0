"""A model on disk in diffusers layout: model_index.json, and a folder a component with its weights."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homereel.core.errors import WeightsError
from homereel.weights.safetensors_file import TensorInfo, read_header

MAX_JSON_BYTES = 16 * 1024**2
# Beside a denoiser's weights: projections of sparse attention that was tuned with it, and what a block calls its own.
TUNED_ATTENTION = "sparse_attention"
TUNED_PROJECTION = "attn1.processor.proj_l"
_STEMS = ("diffusion_pytorch_model", "model")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True)
class ModelFolder:
    """Finds a model's files. Reads nothing until asked; every failure is a WeightsError naming the file."""

    path: Path

    def index(self) -> dict[str, Any]:
        """model_index.json: which components there are."""
        return self.json("model_index.json")

    def config(self, component: str) -> dict[str, Any]:
        """The component's config.json."""
        return self.json(f"{component}/config.json")

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object by its path within the folder."""
        return read_json(self.path / name)

    def has(self, name: str) -> bool:
        """Whether there is a file of this path within the folder."""
        return (self.path / name).is_file()

    def weight_files(self, component: str) -> tuple[Path, ...]:
        """The component's safetensors files: one, or the shards that its index names."""
        folder = self.path / component
        for stem in _STEMS:
            single = folder / f"{stem}.safetensors"
            if single.is_file():
                return (single,)
            index = folder / f"{stem}.safetensors.index.json"
            if index.is_file():
                return tuple(folder / name for name in _shards(index))
        if folder.is_dir() and any(file.suffix in _PICKLES for file in folder.iterdir()):
            raise WeightsError(f"{folder} holds only pickled weights, which can run code; give .safetensors files")
        raise WeightsError(f"{folder} holds no .safetensors file; the model is not complete")

    def tuned_attention(self, component: str) -> Path | None:
        """The file of projections that belongs to a denoiser whose sparse attention was tuned."""
        path = self.path / component / f"{TUNED_ATTENTION}.safetensors"
        return path if path.is_file() else None

    def tensors(self, component: str) -> dict[str, TensorInfo]:
        """All tensors of a component, by name, from the files' checked headers."""
        found: dict[str, TensorInfo] = {}
        for file in self.weight_files(component):
            found.update(read_header(file))
        return found

    def files(self, components: tuple[str, ...]) -> Mapping[str, Path]:
        """The files that decide what these components compute, by their path within the model."""
        paths = [self.path / "model_index.json"]
        for component in components:
            tuned = self.tuned_attention(component)
            paths += [self.path / component / "config.json", *self.weight_files(component), *([tuned] if tuned else [])]
        paths.append(self.path / "tokenizer" / "tokenizer.json")
        return {path.relative_to(self.path).as_posix(): path for path in paths if path.is_file()}


def packaged_folder(name: str) -> ModelFolder | None:
    """The model that came inside this package, or None if the installation lacks it."""
    path = Path(str(importlib.resources.files("homereel") / name))
    return ModelFolder(path) if (path / "model_index.json").is_file() else None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of the model; raises WeightsError that names the file."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise WeightsError(f"{path} is larger than {MAX_JSON_BYTES} bytes; it is no model configuration")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise WeightsError(f"{path} is not JSON; the model is damaged") from None
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds no JSON object; the model is damaged")
    return content


def _shards(index: Path) -> list[str]:
    names = read_json(index).get("weight_map", {})
    shards = sorted({str(name) for name in names.values()}) if isinstance(names, dict) else []
    if not shards or any(Path(name).name != name for name in shards):
        raise WeightsError(f"{index} names no shards, or files outside its folder; the model is damaged")
    return shards
