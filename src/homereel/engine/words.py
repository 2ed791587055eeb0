"""What a model makes of a clip's words: as it was kept, else read now, and kept for the next clip with these words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from homereel.core.machine import Machine
from homereel.core.plan import Plan
from homereel.core.protocols import Family, Use, Words
from homereel.core.request import Request
from homereel.planning.words import READERS, Reader, reader_bytes, reader_files, texts_of_clip, word_keys
from homereel.weights.word_store import WordStore


def read_words(
    request: Request,
    *,
    plan: Plan,
    family: Family,
    machine: Machine,
    store: WordStore,
    hashes: Callable[[Collection[str]], Mapping[str, str]],
    use: Use,
) -> tuple[Words, ...]:
    """Of each text of the clip; `hashes` tells the SHA-256 of the model's files by their names. Where a plan counts on
    words that are kept and turn out to be damaged, they are read anew."""
    texts = texts_of_clip(request, plan=plan, model=family)
    if not store.is_for(reader_bytes(family, dtype=plan.dtype)):
        return family.read_words(texts, use=use)
    files = hashes(reader_files(family))

    def keys(some: Sequence[str], reader: Reader) -> list[str]:
        return word_keys(some, plan=plan, model=family, machine=machine, reader=reader, files=files)

    def kept(reader: Reader) -> dict[str, Words]:
        device = plan.device if reader == "gpu" else "cpu"
        loaded = {text: store.load(key) for text, key in zip(texts, keys(texts, reader), strict=True)}
        return {text: _placed(words, device) for text, words in loaded.items() if words is not None}

    place = "gpu" if plan.residency is None else plan.residency.text_encoder
    reader: Reader = "cpu" if place == "cpu" else "gpu"
    for tried in READERS if place == "cached" else ():
        found = kept(tried)
        if set(texts) <= set(found):
            return tuple(found[text] for text in texts)
    found = kept(reader)
    missing = [text for text in dict.fromkeys(texts) if text not in found]
    if missing:
        fresh = family.read_words(missing, use=use)
        for text, key, words in zip(missing, keys(missing, reader), fresh, strict=True):
            store.save(key, words)
            found[text] = words
    return tuple(found[text] for text in texts)


def _placed(words: Words, device: str) -> Words:
    return {name: tensor.to(device) for name, tensor in words.items()}
