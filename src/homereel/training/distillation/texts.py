"""Prompts, encoded once: training needs no text encoder beside it.

Shape letters: B batch, L text tokens, D features.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from homereel.core.errors import InvalidRequest
from homereel.core.protocols import ModelFacts
from homereel.training.text_encoder import with_unknown_words
from homereel.training.world import describe, sample_scene

FILE = "prompts.safetensors"
UNKNOWN_SHARE = 0.1


def prompts_of(model: ModelFacts, *, file: Path | None, num: int, seed: int) -> list[str]:
    """Lines of a file, or captions of the built-in world for a model that knows its words only.

    Captions never name what the exam asks. Raises InvalidRequest for a model that needs a file.
    """
    if file is not None:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        found = [line for line in lines if line][:num]
        if not found:
            raise InvalidRequest(f"--prompts: {file} has no lines; give a prompt a line", field="prompts")
        return found
    if not model.vocabulary():
        raise InvalidRequest(
            f"{model.model} takes any words, so its student needs prompts to learn from; give --prompts FILE, "
            "a prompt a line",
            field="prompts",
        )
    rng = random.Random(f"prompts {seed}")
    captions = [describe(sample_scene(rng), rng) for _ in range(num)]
    return [with_unknown_words(text, rng) if rng.random() < UNKNOWN_SHARE else text for text in captions]


@torch.inference_mode()
def encode_prompts(family: Any, encoder: Any, prompts: Sequence[str], folder: Path, *, negative: str) -> None:
    """Write `folder/prompts.safetensors`: the states of all prompts one after the other, without their padding."""
    from safetensors.torch import save_file

    states = [_real_tokens(family.encode_text(encoder, text)[0]) for text in (negative, *prompts)]
    lengths = torch.tensor([len(state) for state in states])
    packed = torch.cat(states).half()
    if not bool(packed.isfinite().all()):
        packed = torch.cat(states).bfloat16()
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{FILE}.partial"
    tensors = {"states": packed, "lengths": lengths}
    metadata = {"prompts": json.dumps(list(prompts)), "max_tokens": str(family.max_tokens)}
    save_file(tensors, partial, metadata)
    partial.replace(folder / FILE)


class Texts:
    """The encoded prompts of a folder. `empty_LD` is what guidance compares with."""

    def __init__(self, folder: Path) -> None:
        from safetensors import safe_open

        with safe_open(folder / FILE, "pt") as file:
            self._states: Tensor = file.get_tensor("states")
            lengths = file.get_tensor("lengths")
            self.prompts: list[str] = json.loads(file.metadata()["prompts"])
            self.max_tokens = int(file.metadata()["max_tokens"])
        self._ends = [0, *lengths.cumsum(0).tolist()]
        self.empty_LD = self._padded(0)

    @property
    def dim(self) -> int:
        """Features of a token."""
        return self._states.shape[1]

    def states(self, indices: Sequence[int]) -> Tensor:
        """(B, L, D) float32 of these prompts."""
        return torch.stack([self._padded(index + 1) for index in indices])

    def _padded(self, row: int) -> Tensor:
        found = self._states[self._ends[row] : self._ends[row + 1]].float()
        return torch.nn.functional.pad(found, (0, 0, 0, self.max_tokens - len(found)))


def _real_tokens(states_LD: Tensor) -> Tensor:
    """Without the zeros at the end."""
    real = (states_LD != 0).any(-1).nonzero()
    return states_LD[: int(real.max()) + 1] if len(real) else states_LD[:1]
