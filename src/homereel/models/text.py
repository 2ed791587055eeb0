"""From a prompt to token ids: cleaning as Wan's training had it, and words that a small vocabulary lacks."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from homereel.core.errors import WeightsError

# A vocabulary up to this size is one of whole words, which can be told; larger ones spell any text.
MAX_CLOSED_WORDS = 4096


def clean_prompt(text: str) -> str:
    """Mend broken characters, undo HTML escapes (twice: some are escaped so), and collapse white space."""
    import ftfy

    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


def open_tokenizer(path: Path) -> Any:
    """tokenizer.json, read by the tokenizers library, without padding and truncation; no code of the model's folder
    ever runs. Raises WeightsError."""
    from tokenizers import Tokenizer as Backend

    if not path.is_file():
        raise WeightsError(f"{path} is missing; the model is not complete")
    try:
        backend: Any = Backend.from_file(str(path))
    except Exception as error:  # noqa: BLE001  # the library raises Exception itself
        raise WeightsError(f"{path} is no tokenizer: {error}") from None
    backend.no_padding()
    backend.no_truncation()
    return backend


class Tokenizer:
    """A tokenizer whose texts are cleaned first and cut at `max_tokens`."""

    def __init__(self, path: Path, *, max_tokens: int) -> None:
        self._backend = open_tokenizer(path)
        self._backend.enable_truncation(max_tokens)
        self._max_tokens = max_tokens

    def ids(self, text: str) -> list[int]:
        """Token ids of the cleaned text with its end mark, at most `max_tokens`."""
        ids: list[int] = self._backend.encode(clean_prompt(text)).ids
        return ids

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """Words that the vocabulary lacks, in order and once each; none for a large vocabulary."""
        cleaned = clean_prompt(text)
        encoding = self._full(cleaned)
        unknown = self._unknown_id()
        words = (
            cleaned[start:end]
            for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
            if token == unknown and any(character.isalnum() for character in cleaned[start:end])
        )
        return tuple(dict.fromkeys(words))

    def num_cut(self, text: str) -> int:
        """How many tokens at the end of the text are beyond the model's reach."""
        return max(0, len(self._full(clean_prompt(text)).ids) - self._max_tokens)

    def vocabulary(self) -> tuple[str, ...]:
        """All words, in order, without marks such as the end of a text; empty for a large vocabulary."""
        if self._backend.get_vocab_size() > MAX_CLOSED_WORDS:
            return ()
        special = {token.content for token in self._backend.get_added_tokens_decoder().values()}
        return tuple(sorted(word for word in self._backend.get_vocab() if word not in special))

    def _full(self, cleaned: str) -> Any:
        self._backend.no_truncation()
        try:
            return self._backend.encode(cleaned)
        finally:
            self._backend.enable_truncation(self._max_tokens)

    def _unknown_id(self) -> int | None:
        """The id of any word not known (a Unigram model spells such words instead)."""
        for name in ("<unk>", "[UNK]"):
            found: int | None = self._backend.token_to_id(name)
            if found is not None:
                return found
        return None
