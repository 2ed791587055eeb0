"""From a prompt to the tokens that Gemma reads: padded in front to a fixed length. No torch."""

from __future__ import annotations

from pathlib import Path

from homereel.models.text import open_tokenizer


class GemmaTokenizer:
    """Gemma's tokenizer, whose ids are padded to `max_tokens`."""

    def __init__(self, path: Path, *, max_tokens: int) -> None:
        self._backend = open_tokenizer(path)
        self._padding: int = self._backend.token_to_id("<pad>") or 0
        self._max_tokens = max_tokens

    def padded(self, text: str) -> tuple[list[int], list[int]]:
        """Token ids, `max_tokens` of them, and 1 for each that is text, 0 for padding."""
        ids = self._ids(text)[: self._max_tokens]
        space = self._max_tokens - len(ids)
        return [self._padding] * space + ids, [0] * space + [1] * len(ids)

    def num_cut(self, text: str) -> int:
        """How many tokens at the end of the text are beyond the model's reach."""
        return max(0, len(self._ids(text)) - self._max_tokens)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._backend.encode(text.strip()).ids
        return ids
