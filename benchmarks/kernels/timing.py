"""How long a call takes on a device: warmed up, the median of a few repeats, waiting for the GPU each time."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable

import torch


def measure_seconds(call: Callable[[], object], *, device: torch.device, repeats: int = 7) -> float:
    """Median seconds of `call`; each repeat runs it as often as fills about 20 ms, so that launching does not count."""
    call()
    count = max(1, min(100, int(0.02 / _seconds_of(call, 1, device=device))))
    return statistics.median(_seconds_of(call, count, device=device) for _ in range(repeats))


def machine_name(device: torch.device) -> str:
    """What computes, and with which PyTorch."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def measure_copy(*, device: torch.device) -> float:
    """GB/s that a plain copy reads and writes: the ceiling of whatever only moves memory."""
    source = torch.empty(2**30 if device.type == "cuda" else 2**26, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2e-9 * source.numel() / measure_seconds(lambda: target.copy_(source), device=device)


def _seconds_of(call: Callable[[], object], count: int, *, device: torch.device) -> float:
    _wait(device)
    started = time.perf_counter()
    for _ in range(count):
        call()
    _wait(device)
    return max((time.perf_counter() - started) / count, 1e-9)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
