"""From a prompt to the tokens of HunyuanVideo-1.5: a chat for Qwen2.5-VL, and the quoted words, letter by letter.

The first encoder hears an instruction, then the prompt; what it says of the instruction is dropped. The second, a
Glyph-ByT5, sees only the texts that are to be written in the picture, as bytes. No torch.
"""

from __future__ import annotations

import re
from pathlib import Path

from homereel.models.text import open_tokenizer

# The instruction that the model was trained with, its runs of nine spaces included.
_ASPECTS = (
    "The main content and theme of the video.",
    "The color, shape, size, texture, quantity, text, and spatial relationships of the objects.",
    "Actions, events, behaviors temporal relationships, physical movement changes of the objects.",
    "background environment, light, style and atmosphere.",
    "camera angles, movements, and transitions used in the video.",
)
INSTRUCTION = "You are a helpful assistant. Describe the video by detailing the following aspects:" + "".join(
    f"{' ' * 9}{number}. {aspect}" for number, aspect in enumerate(_ASPECTS, start=1)
)
# Tokens before the prompt's first one, in Qwen's tokenizer; the model was trained with exactly these dropped.
INSTRUCTION_TOKENS = 108
MAX_GLYPH_TOKENS = 256

_QUOTED = re.compile(r'"(.*?)"|“(.*?)”')
# ByT5 counts bytes from here, after its three marks, of which 1 ends a text.
_FIRST_BYTE, _END = 3, 1


class ChatTokenizer:
    """Qwen's tokenizer; the template of the conversation is ours, and that of the model's folder is not read."""

    def __init__(self, path: Path, *, max_tokens: int) -> None:
        self._backend = open_tokenizer(path)
        self._most = INSTRUCTION_TOKENS + max_tokens

    def ids(self, prompt: str) -> list[int]:
        """Token ids of the whole chat, those of the instruction included, cut at the end if it is too long."""
        return self._all(prompt)[: self._most]

    def num_cut(self, prompt: str) -> int:
        """How many tokens at the end are beyond the model's reach."""
        return max(0, len(self._all(prompt)) - self._most)

    def _all(self, prompt: str) -> list[int]:
        ids: list[int] = self._backend.encode(chat(prompt), add_special_tokens=False).ids
        return ids


def chat(prompt: str) -> str:
    """The conversation in Qwen's layout, up to where the assistant would speak."""
    turns = (("system", INSTRUCTION), ("user", prompt or " "))
    said = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns)
    return said + "<|im_start|>assistant\n"


def glyph_text(prompt: str) -> str | None:
    """What is in quotes, each text once, as Glyph-ByT5 was told it; None if nothing is."""
    texts = dict.fromkeys(found[1] or found[2] or "" for found in _QUOTED.finditer(prompt))
    return ". ".join(f'Text "{text}"' for text in texts) + ". " if texts else None


def glyph_ids(text: str) -> list[int]:
    """ByT5's tokens: the bytes, as many as it takes, and the mark of the end."""
    shown = text.encode()[: MAX_GLYPH_TOKENS - 1]
    return [*(_FIRST_BYTE + byte for byte in shown), _END]


def num_glyphs_cut(prompt: str) -> int:
    """How many bytes of the quoted texts are beyond the model's reach."""
    return max(0, len((glyph_text(prompt) or "").encode()) + 1 - MAX_GLYPH_TOKENS)
