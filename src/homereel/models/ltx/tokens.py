"""From a prompt to the tokens that Gemma reads: padded in front to a fixed length. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from homereel.core.errors import WeightsError


class GemmaTokenizer:
    """tokenizer.json, read by the tokenizers library: no code of the model's folder ever runs."""

    def __init__(self, path: Path, *, max_tokens: int) -> None:
        from tokenizers import Tokenizer

        if not path.is_file():
            raise WeightsError(f"{path} is missing; the model is not complete")
        try:
            self._backend: Any = Tokenizer.from_file(str(path))
        except Exception as error:  # noqa: BLE001  # the library raises Exception itself
            raise WeightsError(f"{path} is no tokenizer: {error}") from None
        self._backend.no_padding()
        self._backend.no_truncation()
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
