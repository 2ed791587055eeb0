"""Keeps models warm between clips. One session serves one clip at a time."""

from __future__ import annotations

from collections.abc import Collection
from types import TracebackType
from typing import Self

import torch

from homereel.core.machine import Machine
from homereel.core.protocols import Component, Family, Pass, Undo
from homereel.core.request import LoraUse
from homereel.engine.loras import DENOISERS, put_loras
from homereel.engine.memory import give_back, keep_freed
from homereel.models.registry import model_family
from homereel.passes import apply_passes
from homereel.passes.residency import StreamBlocks
from homereel.planning.machine import probe_machine
from homereel.weights.hashes import hash_files
from homereel.weights.word_store import WordStore

# Some networks hold themselves in a circle, which only a full collection frees; it takes 0.4 s, so small ones
# wait for the next.
COLLECT_FROM_BYTES = 64 * 1024**2


class Session:
    """Loads the parts of a model when they are needed, and keeps them while the machine has room. `words` is where
    is kept what was made of prompts; by default in homereel's folder.

    A second model takes the place of the first. Use it as a context manager, or call `close`.
    """

    def __init__(self, *, machine: Machine | None = None, words: WordStore | None = None) -> None:
        self.machine = machine or probe_machine()
        self.words = words or WordStore.open()
        torch.set_num_threads(self.machine.num_threads)  # a container may grant fewer than torch sees
        keep_freed(self.machine.device)
        self._family: Family | None = None
        self._loaded: dict[tuple[str, str], Component] = {}
        self._hashes: dict[str, str] = {}
        self._loras: tuple[LoraUse, ...] = ()
        self._lora_hashes: tuple[str, ...] = ()
        self._passes: tuple[Pass, ...] = ()
        self._text_device = self.machine.device
        self._undos: dict[tuple[str, str], Undo] = {}

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

    def use_passes(self, passes: tuple[Pass, ...]) -> None:
        """Which passes the denoisers are to have from this clip on.

        Those loaded are changed where the last clip's passes can be undone, and freed where what is needed for that
        was given up, or where blocks are to lie elsewhere. Raises UnsupportedPass if they cannot be applied; then
        those are freed.
        """
        if _streaming(passes) != _streaming(self._passes):
            self.release(*DENOISERS)
        loaded = [key for key in self._loaded if key[0] in DENOISERS]
        if passes != self._passes:
            try:
                for key in loaded:
                    self._change(key, passes)
            except BaseException:
                self.release(*DENOISERS)
                self._passes = ()
                raise
            self._passes = passes
        for key in loaded:
            for each in passes if key in self._loaded else ():
                each.start(self._loaded[key])

    def use_text_device(self, device: str) -> None:
        """Where the words are read from this clip on: "cpu", or where all else computes."""
        if device != self._text_device:
            self.release(*(name for name, _ in self._loaded if _reads_words(name)))
            self._text_device = device

    def _change(self, key: tuple[str, str], passes: tuple[Pass, ...]) -> None:
        """Undo what a loaded denoiser has, and apply these."""
        if self._passes:
            undo = self._undos.pop(key, None)
            if undo is None:
                self.release(key[0])
                return
            undo()
        self._apply(key, self._loaded[key], passes)

    def _apply(self, key: tuple[str, str], part: Component, passes: tuple[Pass, ...]) -> None:
        """Undo is kept, unless it would keep all the weights that were replaced."""
        assert self._family is not None, "family() comes first"
        streaming = _streaming(passes)
        if streaming is not None:
            streaming.place_outside(part, self._family)
        if passes:
            undo = apply_passes(part, self._family, passes)
            if not any(each.undo_holds_weights for each in passes):
                self._undos[key] = undo

    def component(self, name: str, *, dtype: str) -> Component:
        """A part of the current model, loaded if it is not."""
        assert self._family is not None, "family() comes first"
        key = (name, dtype)
        if key not in self._loaded:
            part = self._family.load(name, device=self._device_for(name), dtype=dtype)
            two_experts = "transformer_2" in self._family.components
            put_loras(part, self._loras, component=name, two_experts=two_experts)
            if name in DENOISERS:
                self._apply(key, part, self._passes)
            self._loaded[key] = part
        return self._loaded[key]

    def _device_for(self, name: str) -> str:
        """Blocks that are to travel begin on the host, where a file is only mapped until it is read."""
        if name in DENOISERS and _streaming(self._passes) is not None:
            return "cpu"
        return self._text_device if _reads_words(name) else self.machine.device

    def is_loaded(self, name: str, *, dtype: str) -> bool:
        """Whether `component` would give it at once."""
        return (name, dtype) in self._loaded

    def release(self, *names: str) -> None:
        """Free parts that are not needed any more in this clip."""
        keys = [key for key in self._loaded if key[0] in names]
        freed = [self._loaded.pop(key) for key in keys]
        for key in keys:
            self._undos.pop(key, None)
        large = sum(_num_bytes(part) for part in freed) >= COLLECT_FROM_BYTES
        freed.clear()
        if large:
            give_back(self.machine.device)

    def file_hashes(self, names: Collection[str] | None = None) -> dict[str, str]:
        """SHA-256 of the current model's files (all, or those of these names), reckoned once."""
        assert self._family is not None, "family() comes first"
        files = {name: path for name, path in self._family.files().items() if names is None or name in names}
        self._hashes |= hash_files({name: path for name, path in files.items() if name not in self._hashes})
        return {name: self._hashes[name] for name in files}

    def close(self) -> None:
        """Free everything."""
        self.release(*{name for name, _ in self._loaded})
        self._family, self._hashes = None, {}
        self._loras, self._lora_hashes = (), ()
        self._passes = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _streaming(passes: tuple[Pass, ...]) -> StreamBlocks | None:
    return next((each for each in passes if isinstance(each, StreamBlocks)), None)


def _reads_words(name: str) -> bool:
    return name.startswith("text_encoder")


def _num_bytes(part: Component) -> int:
    return sum(parameter.nbytes for parameter in part.parameters())
