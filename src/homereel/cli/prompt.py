"""Where the prompt comes from: the command line itself, or standard input for `-`."""

from __future__ import annotations

import sys

from homereel.core.errors import InvalidRequest

MAX_BYTES = 256 * 1024  # far more than a prompt may have; the rest is never read


def read_prompt(word: str) -> str:
    """The prompt itself; for `-` what stands on standard input, which must be UTF-8 text."""
    if word != "-":
        return word
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise InvalidRequest(
            f"prompt: standard input has more than {MAX_BYTES:,} bytes; give at most 10,000 characters",
            field="prompt",
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidRequest(
            "prompt: standard input is not UTF-8 text; give a text file with the prompt", field="prompt"
        ) from None
