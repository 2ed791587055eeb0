"""Sparse-linear attention against dense attention on this CPU: seconds a call, the same dtype, one process.

Usage: python benchmarks/attention_cpu.py --lengths 8192 16384 [--json]
The two take turns, and the fastest of a few rounds counts: other work on the machine can only add time. The sparse
call is the whole operator, block map and linear branch with a tuned projection included; `zero_projection_seconds` is
the same before any tuning, when that branch is skipped.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from homereel.kernels.sparse_linear_attention import sparse_linear_attention


def measure(length: int, *, heads: int, size: int, ratio: float, rounds: int, dtype: torch.dtype) -> dict[str, Any]:
    """One row of the table."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, length, heads, size, generator=generator).to(dtype) for _ in range(3))
    tuned = torch.randn(size, size, generator=generator) * 0.1
    calls: dict[str, Callable[[], torch.Tensor]] = {
        "dense_seconds": lambda: F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        ),
        "sparse_seconds": lambda: sparse_linear_attention(q, k, v, ratio=ratio, proj_weight=tuned),
        "zero_projection_seconds": lambda: sparse_linear_attention(q, k, v, ratio=ratio),
    }
    seconds = {name: min(times) for name, times in take_turns(calls, rounds=rounds).items()}
    return {"length": length, **seconds, "speedup": seconds["dense_seconds"] / seconds["sparse_seconds"]}


@torch.no_grad()
def take_turns(calls: dict[str, Callable[[], torch.Tensor]], *, rounds: int) -> dict[str, list[float]]:
    """Seconds of every call in every round; a first round that warms up is not counted."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(rounds + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if round_ > 0:
                times[name].append(time.perf_counter() - started)
    return times


def cpu_name() -> str:
    """What the processor calls itself."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[8192, 16384])
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--head-size", type=int, default=64)
    parser.add_argument("--ratio", type=float, default=0.1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = {"heads": options.heads, "size": options.head_size, "ratio": options.ratio, "rounds": options.rounds}
    rows = [measure(length, **settings, dtype=getattr(torch, options.dtype)) for length in options.lengths]
    if options.json:
        print(json.dumps({"rows": rows, "dtype": options.dtype, "threads": options.threads, "cpu": cpu_name()}))
        return
    print(f"{cpu_name()}, {options.threads} threads, {options.dtype}, {options.ratio:.0%} of blocks")
    for row in rows:
        print(
            f"{row['length']:7} tokens: dense {row['dense_seconds']:.3f} s, sparse {row['sparse_seconds']:.3f} s "
            f"({row['speedup']:.1f}x), with a zero projection {row['zero_projection_seconds']:.3f} s"
        )


if __name__ == "__main__":
    main()
