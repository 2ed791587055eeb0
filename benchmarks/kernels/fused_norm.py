"""Fused norms against PyTorch's own steps, in one run, and against a plain copy of memory.

Usage: python benchmarks/kernels/fused_norm.py [--tokens 32760] [--channels 1536 5120] [--json FILE]
GB/s count what must be read and written once: the token, the result, and tables. Of this machine and this moment.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timing import machine_name, measure_copy, measure_seconds
from torch import Tensor
from torch.nn import functional as F

from homereel.kernels.fused_norm import Rotary, norm_modulate, norm_modulate_quantize, rms_norm_rope
from homereel.kernels.int8_linear import quantize_activation

HEAD_SIZE = 128


def measure(num_tokens: int, num_channels: int, *, device: torch.device) -> list[dict[str, Any]]:
    """A row for each operation and way."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    x_BLC = torch.randn(1, num_tokens, num_channels, device=device, dtype=dtype)
    weight = torch.randn(num_channels, device=device, dtype=dtype)
    scale, shift = (torch.randn(1, 1, num_channels, device=device) for _ in range(2))
    angles = torch.rand(1, num_tokens, 1, HEAD_SIZE // 2, device=device)
    rotary, heads = Rotary(angles.cos(), angles.sin(), "interleaved"), num_channels // HEAD_SIZE
    numbers, size = x_BLC.numel(), x_BLC.element_size()
    tables = 2 * angles.numel() * 4
    ways: list[tuple[str, str, int, Callable[[], object]]] = [
        ("norm, rope", "steps", 2 * numbers * size + tables, lambda: norm_rope_in_steps(x_BLC, weight, rotary)),
        (
            "norm, rope",
            "fused",
            2 * numbers * size + tables,
            lambda: rms_norm_rope(x_BLC, weight, num_heads=heads, eps=1e-6, rotary=rotary),
        ),
        ("norm, modulate", "steps", 2 * numbers * size, lambda: modulate_in_steps(x_BLC, scale, shift)),
        (
            "norm, modulate",
            "fused",
            2 * numbers * size,
            lambda: norm_modulate(x_BLC, scale=scale, shift=shift, eps=1e-6),
        ),
        (
            "norm, modulate, int8",
            "steps",
            numbers * (size + 1),
            lambda: quantize_activation(modulate_in_steps(x_BLC, scale, shift)),
        ),
        (
            "norm, modulate, int8",
            "fused",
            numbers * (size + 1),
            lambda: norm_modulate_quantize(x_BLC, scale=scale, shift=shift, eps=1e-6),
        ),
    ]
    rows = []
    for operation, way, moved_bytes, call in ways:
        seconds = measure_seconds(call, device=device)
        figures = {"tokens": num_tokens, "channels": num_channels, "operation": operation, "way": way}
        rows.append({**figures, "seconds": seconds, "gb_per_second": 1e-9 * moved_bytes / seconds})
    return rows


def norm_rope_in_steps(x_BLC: Tensor, weight: Tensor, rotary: Rotary) -> Tensor:
    """As a model without fused kernels does it."""
    normed = F.rms_norm(x_BLC, weight.shape, weight, 1e-6).unflatten(2, (-1, HEAD_SIZE))
    first, second = normed.unflatten(-1, (-1, 2)).unbind(-1)
    out = torch.empty_like(normed)
    out[..., 0::2] = first * rotary.cos_BLHP - second * rotary.sin_BLHP
    out[..., 1::2] = first * rotary.sin_BLHP + second * rotary.cos_BLHP
    return out


def modulate_in_steps(x_BLC: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """As a model without fused kernels does it."""
    normed = F.layer_norm(x_BLC.float(), x_BLC.shape[-1:], eps=1e-6)
    return (normed * (1 + scale) + shift).to(x_BLC.dtype)


def main() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = device.type == "cuda"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=32760 if on_gpu else 2048)
    parser.add_argument("--channels", type=int, nargs="+", default=[1536, 5120] if on_gpu else [512])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    ceiling = measure_copy(device=device)
    report: dict[str, Any] = {"machine": machine_name(device), "copy_gb_per_second": ceiling, "rows": []}
    print(f"{report['machine']}: a copy moves {ceiling:.1f} GB/s")
    for num_channels in options.channels:
        for row in measure(options.tokens, num_channels, device=device):
            print(
                f"{num_channels:6} {row['operation']:21} {row['way']:6} {row['seconds'] * 1e3:9.3f} ms "
                f"{row['gb_per_second']:8.1f} GB/s {row['gb_per_second'] / ceiling:5.0%} of a copy"
            )
            report["rows"].append(row)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
