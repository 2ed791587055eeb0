"""Whether a clip's words were read before: then its text encoder need not even be loaded.

What an encoder makes of a text is found again under a hash of all that decides it to the last bit: the encoder's and
the tokenizer's files, the text, the number format, what computed it, and the versions of the code that did.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

from homereel.core.machine import Machine
from homereel.core.plan import Plan
from homereel.core.protocols import ModelFacts
from homereel.core.request import Request
from homereel.weights.hashes import known_hashes
from homereel.weights.word_store import WordStore

# Where words are read: by what computes the clip, or by the processor beside a GPU.
Reader: TypeAlias = Literal["gpu", "cpu"]
READERS: tuple[Reader, ...] = ("gpu", "cpu")
_SOFTWARE = ("torch", "transformers", "tokenizers", "ftfy")
# Goes up when a family's `read_words` changes what it makes of a text.
_READ_WORDS = 1


def read_before(
    store: WordStore, *, request: Request, plan: Plan, model: ModelFacts, machine: Machine
) -> frozenset[Reader]:
    """By whom all of the clip's texts were read already. Nothing large is hashed for it: files that never were have
    not been read from either."""
    if not store.is_for(reader_bytes(model, dtype=plan.dtype)):
        return frozenset()
    files = reader_files(model)
    digests = known_hashes(files) if files else None
    if digests is None:
        return frozenset()
    texts = texts_of_clip(request, plan=plan, model=model)
    return frozenset(
        reader
        for reader in READERS
        if all(map(store.has, word_keys(texts, plan=plan, model=model, machine=machine, reader=reader, files=digests)))
    )


def texts_of_clip(request: Request, *, plan: Plan, model: ModelFacts) -> tuple[str, ...]:
    """The prompt, and what guidance compares with it."""
    return (request.prompt, request.negative_prompt) if model.compares_words(plan) else (request.prompt,)


def word_keys(
    texts: Iterable[str],
    *,
    plan: Plan,
    model: ModelFacts,
    machine: Machine,
    reader: Reader,
    files: Mapping[str, str],
) -> list[str]:
    """One for each text; `files` are the SHA-256 of `reader_files`."""
    on_gpu = reader == "gpu" and machine.device == "cuda"
    about = {
        "files": sorted(files.items()),
        "family": model.name,
        "dtype": plan.dtype,
        "computes": [machine.device, reader, machine.name, None if on_gpu else machine.num_threads],
        "software": _versions(),
    }
    common = json.dumps(about)
    return [hashlib.sha256(f"{common}\n{text}".encode("utf-8", "surrogatepass")).hexdigest() for text in texts]


def reader_files(model: ModelFacts) -> dict[str, Path]:
    """The model's files that decide what is made of words; none for a model that is not here."""
    rooms = {*model.readers, "tokenizer"}
    return {name: path for name, path in model.files().items() if "/" not in name or name.split("/")[0] in rooms}


def reader_bytes(model: ModelFacts, *, dtype: str) -> int:
    """Of all parts that read words."""
    return sum(model.weight_bytes(part, dtype=dtype) for part in model.readers)


@cache
def _versions() -> dict[str, str]:
    return {"read_words": str(_READ_WORDS), **{name: importlib.metadata.version(name) for name in _SOFTWARE}}
