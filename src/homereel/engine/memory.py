"""The memory of this process: the most that one clip took, what is held now, and giving back what is free."""

from __future__ import annotations

import ctypes
import gc
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch

from homereel.core.environment import heap_is_told
from homereel.core.machine import Machine

# What glibc keeps of freed memory, and from which size on a piece of memory is the system's again when it is freed.
# Pieces of a clip are smaller, weights of large models larger.
KEPT_BYTES = 128 * 1024**2
ALONE_BYTES = 32 * 1024**2
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt's names in malloc.h


class HostMemoryShort(MemoryError):
    """This process holds more of the host's memory than it may; the message says how much."""


def keep_within(machine: Machine) -> None:
    """Let torch take no more of the GPU than was granted, so that a plan for less is held to it."""
    if machine.device != "cuda" or machine.vram_bytes is None:
        return
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, machine.vram_bytes / total) if machine.limited else 1.0)


def keep_freed(device: str) -> None:
    """Let glibc keep what a clip on a processor frees, for the next layer to fill.

    Else each layer's memory is fetched from the system anew, page by page, which takes as long as a short clip's
    decoding. What users set themselves stays; `give_back` still gives all of it back.
    """
    choose = _of_glibc("mallopt")
    if device == "cpu" and choose is not None and not heap_is_told():
        choose(_M_TRIM_THRESHOLD, KEPT_BYTES)
        choose(_M_MMAP_THRESHOLD, ALONE_BYTES)


def start_peak(device: str) -> None:
    """Forget earlier peaks, where the system lets us."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_bytes(device: str) -> int:
    """The peak since `start_peak` (since the process began, where the system cannot forget); 0 if unknown."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    if sys.platform == "win32":
        return 0
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def own_bytes() -> int | None:
    """What this process holds and the system cannot take back (mapped files do not count); None if unknown."""
    held = 0
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(("RssAnon:", "RssShmem:")):
                held += int(line.split()[1]) * 1024
    except OSError:
        return None
    return held or None


def check_host(limit_bytes: int) -> None:
    """Raises HostMemoryShort if this process holds more than this."""
    held = own_bytes()
    if held is not None and held > limit_bytes:
        raise HostMemoryShort(f"{held / 1e9:.1f} GB are held, {limit_bytes / 1e9:.1f} GB may be")


def give_back(device: str) -> None:
    """Return what nobody holds any more to the GPU and to the system."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


@cache
def _of_glibc(name: str) -> Any:
    """A function of glibc's heap; elsewhere there is none, or it is not needed."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), name, None)
