"""What the kernels of sparse-linear attention can take, and what to do instead where they cannot."""

from __future__ import annotations

import importlib.util

import torch

HEAD_SIZES = (64, 128)
BLOCK_SIZES = ((128, 64), (64, 64), (64, 128))  # queries × keys; 128 × 64 unless there is a reason
GPU_DTYPES = (torch.bfloat16, torch.float16)
CPU_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def support(device: tuple[int, int] | str, head_dim: int, dtype: torch.dtype, *, eight_bit: bool = False) -> str | None:
    """None if this device has a fast path, else the reason why not and what is possible instead.

    `device` is "cpu", another device type, or the compute capability of an NVIDIA GPU, such as (9, 0).
    """
    if isinstance(device, str):
        return _support_without_gpu(device, dtype, eight_bit=eight_bit)
    if device < (8, 0):
        return (
            f"sparse attention needs an NVIDIA GPU of compute capability 8.0 (RTX 30, A100) or later; this one has "
            f"{device[0]}.{device[1]}; use dense attention"
        )
    if head_dim not in HEAD_SIZES:
        return f"sparse attention has GPU kernels for heads of 64 and 128, not {head_dim}; use dense attention"
    if dtype not in GPU_DTYPES:
        return f"sparse attention has GPU kernels for {_names(GPU_DTYPES)}, not {_names((dtype,))}; load the model so"
    if importlib.util.find_spec("triton") is None:
        return "sparse attention on a GPU needs Triton: pip install triton"
    return None


def _support_without_gpu(device: str, dtype: torch.dtype, *, eight_bit: bool) -> str | None:
    if device != "cpu":
        return f'sparse attention has no kernel for "{device}"; it is fast on NVIDIA GPUs and on a CPU'
    if eight_bit:
        return "8-bit attention needs an NVIDIA GPU; on a CPU use the sparse attention without 8 bits"
    if dtype not in CPU_DTYPES:
        return f"sparse attention computes in {_names(CPU_DTYPES)}, not {_names((dtype,))}"
    return None


def _names(dtypes: tuple[torch.dtype, ...]) -> str:
    return ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
