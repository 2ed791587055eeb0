"""A causal 3 x 3 x 3 convolution with fewer multiplications against oneDNN's own and PyTorch's, in one run.

Usage: python benchmarks/kernels/causal_conv.py [--channels 32 64 96] [--side 48] [--frames 16] [--json FILE]
GMAC/s count the multiplications of the plain convolution, whichever way: what is above the processor's own ceiling was
saved. The error is the largest, in shares of the largest output, against float64. Of this machine and this moment.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timing import machine_name, measure_seconds
from torch import Tensor

from homereel.kernels.causal_conv import CausalConv, in_layout, reference
from homereel.kernels.causal_conv.direct import convolve

CPU = torch.device("cpu")


def measure(num_channels: int, *, side: int, num_frames: int) -> list[dict[str, Any]]:
    """A row for each way."""
    source = torch.Generator().manual_seed(0)
    x = torch.randn(1, num_channels, num_frames, side, side, generator=source)
    weight = torch.randn(num_channels, num_channels, 3, 3, 3, generator=source) / (27 * num_channels) ** 0.5
    bias = torch.randn(num_channels, generator=source)
    padded = torch.cat([torch.zeros_like(x[:, :, :2]), x], dim=2)
    likes, like_weight, likes_padded = in_layout(x), in_layout(weight), in_layout(padded)
    layer = CausalConv(weight, bias)
    layer(likes[:, :, :1])  # a clip's first frame, which goes another way
    ways: dict[str, Callable[[], Tensor]] = {
        "pytorch": lambda: reference(padded, weight, bias),
        "onednn": lambda: convolve(likes_padded, like_weight, bias, padding=(0, 1, 1)),
        "ours": lambda: layer(likes),
    }
    exact = reference(padded.double(), weight.double(), bias.double())
    rows = []
    for way, call in ways.items():
        seconds = measure_seconds(call, device=CPU, repeats=5)
        rate = 27e-9 * num_channels * x.numel() / seconds
        rows.append({"channels": num_channels, "way": way, "seconds": seconds, "gmac_per_second": rate})
    fresh = CausalConv(weight, bias)(likes)
    for row, found in zip(rows, (ways["pytorch"](), ways["onednn"](), fresh), strict=True):
        row["largest_error"] = float((found.double() - exact).abs().max() / exact.abs().max())
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, nargs="+", default=[32, 64, 96])
    parser.add_argument("--side", type=int, default=48)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    report: dict[str, Any] = {"machine": machine_name(CPU), "side": options.side, "frames": options.frames, "rows": []}
    print(f"{report['machine']}: {options.frames} frames of {options.side} x {options.side}")
    with torch.inference_mode():
        for num_channels in options.channels:
            for row in measure(num_channels, side=options.side, num_frames=options.frames):
                print(
                    f"{num_channels:6} {row['way']:8} {row['seconds'] * 1e3:9.2f} ms "
                    f"{row['gmac_per_second']:8.1f} GMAC/s, largest error {row['largest_error']:.1e}"
                )
                report["rows"].append(row)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
