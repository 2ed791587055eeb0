"""Keeps models warm between clips. One session serves one clip at a time."""

from __future__ import annotations

import gc
from types import TracebackType
from typing import Self

import torch

from homereel.core.machine import Machine
from homereel.core.protocols import Component, Family
from homereel.core.request import LoraUse
from homereel.engine.loras import DENOISERS, put_loras
from homereel.models.registry import model_family
from homereel.planning.machine import probe_machine
from homereel.weights.hashes import hash_files

# Some networks hold themselves in a circle, which only a full collection frees; it takes 0.4 s, so small ones
# wait for the next.
COLLECT_FROM_BYTES = 64 * 1024**2


class Session:
    """Loads the parts of a model when they are needed, and keeps them while the machine has room.

    A second model takes the place of the first. Use it as a context manager, or call `close`.
    """

    def __init__(self, *, machine: Machine | None = None) -> None:
        self.machine = machine or probe_machine()
        torch.set_num_threads(self.machine.num_threads)  # a container may grant fewer than torch sees
        self._family: Family | None = None
        self._loaded: dict[tuple[str, str], Component] = {}
        self._hashes: dict[str, str] | None = None
        self._loras: tuple[LoraUse, ...] = ()
        self._lora_hashes: tuple[str, ...] = ()

    def family(self, model: str | None) -> Family:
        """The model of this name; raises as `model_family` does."""
        family = model_family(model)
        if self._family is None or family != self._family:
            self.close()
            self._family = family
        return self._family

    def use_loras(self, loras: tuple[LoraUse, ...], *, hashes: tuple[str, ...]) -> None:
        """Which LoRAs the denoisers are to hold, and the SHA-256 of their files; those loaded with others are freed."""
        if (loras, hashes) != (self._loras, self._lora_hashes):
            self.release(*DENOISERS)
            self._loras, self._lora_hashes = loras, hashes

    def component(self, name: str, *, dtype: str) -> Component:
        """A part of the current model, loaded if it is not."""
        assert self._family is not None, "family() comes first"
        key = (name, dtype)
        if key not in self._loaded:
            part = self._family.load(name, device=self.machine.device, dtype=dtype)
            two_experts = "transformer_2" in self._family.components
            put_loras(part, self._loras, component=name, two_experts=two_experts)
            self._loaded[key] = part
        return self._loaded[key]

    def is_loaded(self, name: str, *, dtype: str) -> bool:
        """Whether `component` would give it at once."""
        return (name, dtype) in self._loaded

    def release(self, *names: str) -> None:
        """Free parts that are not needed any more in this clip."""
        freed = [self._loaded.pop(key) for key in list(self._loaded) if key[0] in names]
        large = sum(_num_bytes(part) for part in freed) >= COLLECT_FROM_BYTES
        freed.clear()
        if large:
            gc.collect()
            if self.machine.device == "cuda":
                torch.cuda.empty_cache()

    def file_hashes(self) -> dict[str, str]:
        """SHA-256 of the current model's files, reckoned once."""
        assert self._family is not None, "family() comes first"
        if self._hashes is None:
            self._hashes = hash_files(self._family.files())
        return self._hashes

    def close(self) -> None:
        """Free everything."""
        self.release(*{name for name, _ in self._loaded})
        self._family, self._hashes = None, None
        self._loras, self._lora_hashes = (), ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _num_bytes(part: Component) -> int:
    return sum(parameter.nbytes for parameter in part.parameters())
