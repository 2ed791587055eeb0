"""Opens a LoRA: the header, checked, and the metadata. A tensor is read only when it is wanted, and without torch."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from homereel.core.errors import WeightsError
from homereel.weights.model_folder import read_json
from homereel.weights.safetensors_file import TensorInfo, read_header

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_PEFT_METADATA = "lora_adapter_metadata"  # where diffusers keeps PEFT's configuration
_PEFT_WEIGHTS, _PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
_NUMBERS = {"F64": "<d", "F32": "<f", "F16": "<e", "BF16": "<H", "I64": "<q", "I32": "<i"}


@dataclass(frozen=True)
class LoraFile:
    """A LoRA on disk; `data_start` is where in the file its tensors begin."""

    path: Path
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    data_start: int

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def peft(self) -> dict[str, Any]:
        """PEFT's configuration (r, lora_alpha, ...) from the metadata or the file beside it; empty if there is none.

        Raises WeightsError if it is there and makes no sense.
        """
        beside = self.path.with_name(_PEFT_CONFIG)
        if _PEFT_METADATA in self.metadata:
            try:
                found = json.loads(self.metadata[_PEFT_METADATA])
            except (ValueError, RecursionError):
                raise WeightsError(f"{self.path} has a damaged {_PEFT_METADATA}; fetch it again") from None
        elif self.name == _PEFT_WEIGHTS and beside.is_file():
            found = read_json(beside)
        else:
            return {}
        if not isinstance(found, dict):
            raise WeightsError(f"{self.path} has a damaged {_PEFT_METADATA}; fetch it again")
        return {name.removeprefix("transformer."): value for name, value in found.items()}

    def number(self, key: str) -> float:
        """A tensor that holds a single number, such as an alpha. Raises WeightsError if it holds more, or none."""
        info = self.tensors[key]
        if info.dtype not in _NUMBERS or set(info.shape) - {1}:
            raise WeightsError(f"{self.path}: {key} is {info.dtype} {info.shape} where one number is wanted")
        try:
            with self.path.open("rb") as file:
                file.seek(self.data_start + info.start)
                raw = file.read(info.end - info.start)
        except OSError as error:
            raise WeightsError(f"{self.path} cannot be read: {error.strerror or error}") from None
        if len(raw) != info.end - info.start:
            raise WeightsError(f"{self.path} was cut off; fetch it again")
        if info.dtype == "BF16":  # the upper half of a float32
            raw = b"\0\0" + raw
        return float(struct.unpack("<f" if info.dtype == "BF16" else _NUMBERS[info.dtype], raw)[0])


def read_lora(path: str | Path) -> LoraFile:
    """Open a LoRA. Raises WeightsError if it is missing, pickled, cut off or no safetensors file."""
    path = Path(path).expanduser()
    if path.suffix.lower() in _PICKLES:
        raise WeightsError(f"{path} is pickled, which can run code; give the LoRA as a .safetensors file")
    if path.is_dir():
        raise WeightsError(f"{path} is a folder; give the .safetensors file of a LoRA")
    tensors = read_header(path)
    if not tensors:
        raise WeightsError(f"{path} holds no tensors")
    with path.open("rb") as file:
        num_bytes = struct.unpack("<Q", file.read(8))[0]
        metadata = json.loads(file.read(num_bytes)).get("__metadata__") or {}
    if not isinstance(metadata, dict):
        raise WeightsError(f"{path} has a damaged header; fetch it again")
    texts = {name: value for name, value in metadata.items() if isinstance(value, str)}
    return LoraFile(path=path, tensors=tensors, metadata=texts, data_start=8 + num_bytes)
