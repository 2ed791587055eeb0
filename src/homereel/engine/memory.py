"""The most memory that one clip took: of the GPU where one computes, else of this process."""

from __future__ import annotations

import sys
from pathlib import Path

import torch


def start_peak(device: str) -> None:
    """Forget earlier peaks, where the system lets us."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return
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
