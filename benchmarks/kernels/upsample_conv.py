"""A convolution of a doubled picture that is never made, against doubling and PyTorch's convolution, in one run.

Usage: python benchmarks/kernels/upsample_conv.py [--channels 64 192] [--side 24] [--pictures 16] [--json FILE]
GMAC/s count the multiplications of the plain way, whichever way. Of this machine and this moment.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timing import machine_name, measure_seconds

from homereel.kernels.upsample_conv import UpsampleConv, reference

CPU = torch.device("cpu")


def measure(num_channels: int, *, side: int, num_pictures: int) -> list[dict[str, Any]]:
    """A row for each way."""
    source = torch.Generator().manual_seed(0)
    x = torch.randn(num_pictures, num_channels, side, side, generator=source)
    weight = torch.randn(num_channels, num_channels, 3, 3, generator=source) / (9 * num_channels) ** 0.5
    bias = torch.randn(num_channels, generator=source)
    likes = x.contiguous(memory_format=torch.channels_last)
    like_weight = weight.contiguous(memory_format=torch.channels_last)
    out = torch.empty(num_pictures, num_channels, 2 * side, 2 * side, memory_format=torch.channels_last)
    layer = UpsampleConv(weight, bias)
    ways: dict[str, Callable[[], object]] = {
        "doubled": lambda: reference(x, weight, bias),
        "doubled, channels last": lambda: reference(likes, like_weight, bias),
        "ours": lambda: layer(likes, out=out),
    }
    rows = []
    for way, call in ways.items():
        seconds = measure_seconds(call, device=CPU, repeats=5)
        rate = 36e-9 * num_channels * x.numel() / seconds
        rows.append({"channels": num_channels, "way": way, "seconds": seconds, "gmac_per_second": rate})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, nargs="+", default=[64, 192])
    parser.add_argument("--side", type=int, default=24)
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    report: dict[str, Any] = {"machine": machine_name(CPU), "side": options.side, "rows": []}
    report["pictures"] = options.pictures
    print(f"{report['machine']}: {options.pictures} pictures of {options.side} x {options.side}, doubled")
    with torch.inference_mode():
        for num_channels in options.channels:
            for row in measure(num_channels, side=options.side, num_pictures=options.pictures):
                print(
                    f"{num_channels:6} {row['way']:22} {row['seconds'] * 1e3:9.2f} ms "
                    f"{row['gmac_per_second']:8.1f} GMAC/s"
                )
                report["rows"].append(row)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
