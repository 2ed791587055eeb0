"""Whether an exception says that memory ran out, of the machine or of its GPU."""

from __future__ import annotations

import sys

_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """torch is only asked if it is there already; its allocator for the CPU raises a RuntimeError that says so."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _NO_MEMORY)
