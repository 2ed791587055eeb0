"""Seconds of work on a device, and the ceilings of the device itself: matrix products and memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


def time_runs(work: Callable[[], Any], *, device: str, repeat: int, deadline: float | None = None) -> list[float]:
    """Seconds of each of `repeat` runs; fewer, but one, if the deadline (of time.monotonic) passes. Warm up before."""
    found: list[float] = []
    while len(found) < repeat and (not found or deadline is None or time.monotonic() < deadline):
        found.append(_time_one(work, device=device))
    return found


def _time_one(work: Callable[[], Any], *, device: str) -> float:
    if device != "cuda":
        started = time.perf_counter()
        work()
        return time.perf_counter() - started
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1000


def measure_ceilings(*, device: str, toy: bool) -> dict[str, Any]:
    """TFLOP/s of large matrix products a number format, and GB/s of a copy, read and written; None is "not here".

    The best of two shapes counts; what could not be run stands in "failed" with the reason.
    """
    sides = (128, 256) if toy else (8192, 16384)
    found: dict[str, Any] = {"failed": {}}
    products = {"bf16": _bf16, "int8": _int8, "fp8": _fp8} if device == "cuda" else {"bf16": _bf16, "int8": _int8}
    for name, make in {**products, "fp32": _fp32}.items():
        try:
            found[f"{name}_tflops"] = max(_tflops(make(side, device), side, device=device) for side in sides)
        except Exception as error:  # noqa: BLE001  # a product that this GPU or this torch lacks: told, and not needed
            found[f"{name}_tflops"] = None
            found["failed"][name] = f"{type(error).__name__}: {error}"
    source = torch.empty(2**22 if toy else 2**31, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    seconds = statistics.median(time_runs(lambda: target.copy_(source), device=device, repeat=5))
    found["copy_gb_per_second"] = 2 * source.numel() / seconds / 1e9
    return found


def _tflops(work: Callable[[], Any], side: int, *, device: str) -> float:
    for _ in range(3):
        work()
    return 2 * side**3 / statistics.median(time_runs(work, device=device, repeat=10)) / 1e12


def _bf16(side: int, device: str) -> Callable[[], Any]:
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return lambda: a @ b


def _fp32(side: int, device: str) -> Callable[[], Any]:
    a, b = (torch.randn(side, side, device=device) for _ in range(2))
    return lambda: a @ b


def _int8(side: int, device: str) -> Callable[[], Any]:
    a, b = (torch.randint(-127, 128, (side, side), device=device, dtype=torch.int8) for _ in range(2))
    return lambda: torch._int_mm(a, b.T)


def _fp8(side: int, device: str) -> Callable[[], Any]:
    a, b = (torch.randn(side, side, device=device).to(torch.float8_e4m3fn) for _ in range(2))
    one = torch.ones((), device=device)
    return lambda: torch._scaled_mm(a, b.T, scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True)
