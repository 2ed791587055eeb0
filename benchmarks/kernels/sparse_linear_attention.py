"""Achieved TFLOP/s of sparse-linear attention against this machine's own ceiling: a large matrix product, same run.

Usage: python benchmarks/kernels/sparse_linear_attention.py [--length 32760] [--heads 12] [--head-size 128]
On an NVIDIA GPU in bfloat16 at the shape of Wan 1.3B in 480p; else on the CPU in float32, smaller. Only the products of
the kept blocks are counted, so choosing blocks and the linear branch show as lost throughput.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from homereel.kernels.sparse_linear_attention import sparse_linear_attention, support
from homereel.kernels.sparse_linear_attention.blocks import num_blocks_of, num_kept_blocks

BLOCK_Q, BLOCK_K = 128, 64


def measure(*, device: str, length: int, heads: int, size: int, ratio: float, rounds: int) -> None:
    """Print one line an operation: milliseconds, TFLOP/s, share of the ceiling."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    ceiling = matmul_ceiling(device, dtype=dtype, rounds=rounds)
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, {dtype}, L {length}, H {heads}, D {size}; matrix product {ceiling:.2f} TFLOP/s")
    q, k, v = (torch.randn(1, length, heads, size, device=device, dtype=dtype) for _ in range(3))
    weight = torch.randn(size, size, device=device) * 0.1
    kept = num_kept_blocks(length, block_k=BLOCK_K, ratio=ratio)
    sparse = 4 * num_blocks_of(length, block=BLOCK_Q) * BLOCK_Q * kept * BLOCK_K * heads * size
    calls: dict[str, tuple[Callable[[], Tensor], float]] = {
        "dense": (
            lambda: F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)),
            4 * length**2 * heads * size,
        ),
        "sparse": (lambda: sparse_linear_attention(q, k, v, ratio=ratio), sparse),
        "sparse + linear": (lambda: sparse_linear_attention(q, k, v, ratio=ratio, proj_weight=weight), sparse),
    }
    if device == "cuda" and support(torch.cuda.get_device_capability(), size, dtype, eight_bit=True) is None:
        calls["sparse, 8-bit"] = (lambda: sparse_linear_attention(q, k, v, ratio=ratio, eight_bit=True), sparse)
    calls["sparse + linear, forward and backward"] = (lambda: train(q, k, v, weight, ratio=ratio), 3.5 * sparse)
    for label, (call, operations) in calls.items():
        seconds = fastest(call, rounds=rounds, device=device)
        rate = operations / seconds / 1e12
        print(f"{label:38} {seconds * 1e3:9.2f} ms {rate:8.2f} TFLOP/s {rate / ceiling:5.0%} of the ceiling")


def train(q: Tensor, k: Tensor, v: Tensor, weight: Tensor, *, ratio: float) -> Tensor:
    """One forward and backward."""
    inputs = [x.detach().requires_grad_() for x in (q, k, v, weight)]
    out = sparse_linear_attention(inputs[0], inputs[1], inputs[2], ratio=ratio, proj_weight=inputs[3])
    return torch.autograd.grad(out, inputs, torch.ones_like(out))[0]


def matmul_ceiling(device: str, *, dtype: torch.dtype, rounds: int) -> float:
    """TFLOP/s of a square matrix product of random numbers."""
    side = 8192 if device == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / fastest(lambda: a @ b, rounds=rounds, device=device) / 1e12


def fastest(call: Callable[[], Tensor], *, rounds: int, device: str) -> float:
    """Seconds of the fastest of some rounds, after one that warms up."""
    times = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times[1:])


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=32760 if device == "cuda" else 4096)
    parser.add_argument("--heads", type=int, default=12 if device == "cuda" else 2)
    parser.add_argument("--head-size", type=int, default=128)
    parser.add_argument("--ratio", type=float, default=0.1)
    parser.add_argument("--rounds", type=int, default=10 if device == "cuda" else 3)
    options = parser.parse_args()
    measure(
        device=device,
        length=options.length,
        heads=options.heads,
        size=options.head_size,
        ratio=options.ratio,
        rounds=options.rounds,
    )


if __name__ == "__main__":
    main()
