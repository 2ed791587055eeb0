"""Linear layers in 8 bits against 16 or 32, in one run, and against the fastest product that this machine can do.

Usage: python benchmarks/kernels/int8_linear.py [--tokens 32760] [--layers 1536x8960 …] [--tiles] [--json FILE]
`--layers` are inputs x outputs. `--tiles` tries every tile of a small table (GPU only): the figures by which
homereel/kernels/int8_linear/tiles.py is chosen. Times are of this machine and this moment.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timing import machine_name, measure_seconds
from torch import Tensor
from torch.nn import functional as F

from homereel.kernels.int8_linear import (
    SCHEMES,
    Scheme,
    quantize_activation,
    quantize_weight,
    quantized_linear,
    quantized_matmul,
    support,
)

WAN = ("1536x1536", "1536x8960", "8960x1536", "5120x5120", "5120x13824", "13824x5120")
SMALL = ("512x512", "512x1024")


def measure_layer(num_tokens: int, num_inputs: int, num_outputs: int, *, device: torch.device) -> list[dict[str, Any]]:
    """A row for each way to compute the layer; TFLOP/s count 2 · tokens · inputs · outputs."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    x_MK = torch.randn(num_tokens, num_inputs, device=device, dtype=dtype)
    weight_NK = torch.randn(num_outputs, num_inputs, device=device, dtype=dtype) / num_inputs**0.5
    bias_N = torch.randn(num_outputs, device=device, dtype=dtype)
    ways: dict[str, Callable[[], object]] = {
        str(dtype).removeprefix("torch."): lambda: F.linear(x_MK, weight_NK, bias_N)
    }
    for scheme in SCHEMES:
        if device.type == "cpu" or support(scheme, device=device) is None:
            ways |= _ways_of(scheme, x_MK, weight_NK, bias_N)
    rows: list[dict[str, Any]] = []
    for name, way in ways.items():
        seconds = measure_seconds(way, device=device)
        figures = {"tokens": num_tokens, "inputs": num_inputs, "outputs": num_outputs, "way": name, "seconds": seconds}
        rows.append({**figures, "tflops": 2e-12 * num_tokens * num_inputs * num_outputs / seconds})
    for row in rows:
        row["speedup"] = rows[0]["seconds"] / row["seconds"]
    return rows


def _ways_of(scheme: Scheme, x_MK: Tensor, weight_NK: Tensor, bias_N: Tensor) -> dict[str, Callable[[], object]]:
    values, scale = quantize_weight(weight_NK, scheme=scheme)
    xq = quantize_activation(x_MK, scheme=scheme)
    return {
        f"{scheme}, whole": lambda: quantized_linear(x_MK, values, scale, bias=bias_N),
        f"{scheme}, product": lambda: quantized_matmul(xq, values, scale, bias=bias_N),
    }


def measure_ceilings(device: torch.device) -> dict[str, float]:
    """TFLOP/s of PyTorch's own products of squares: the best that is known to be possible here."""
    side = 8192 if device.type == "cuda" else 1024
    half = torch.bfloat16 if device.type == "cuda" else torch.float32
    a, b = (torch.randn(side, side, device=device).to(half) for _ in range(2))
    small = torch.randint(-127, 128, (side, side), device=device, dtype=torch.int8)
    ways: dict[str, Callable[[], object]] = {
        str(half).removeprefix("torch."): lambda: a @ b,
        "int8": lambda: torch._int_mm(small, small.T),
    }
    if device.type == "cuda" and support("fp8", device=device) is None:
        fp8, one = a.to(torch.float8_e4m3fn), torch.ones((), device=device)
        ways["fp8"] = lambda: torch._scaled_mm(fp8, fp8.T, scale_a=one, scale_b=one, out_dtype=torch.bfloat16)
    return {name: 2e-12 * side**3 / measure_seconds(way, device=device) for name, way in ways.items()}


def measure_tiles(num_tokens: int, num_inputs: int, num_outputs: int, *, device: torch.device) -> list[dict[str, Any]]:
    """Every tile that compiles and fits, fastest first, for int8 and fp8."""
    from triton.runtime.errors import OutOfResources

    from homereel.kernels.int8_linear import triton as kernels
    from homereel.kernels.int8_linear.tiles import Tile

    rows = []
    x_MK = torch.randn(num_tokens, num_inputs, device=device, dtype=torch.bfloat16)
    weight_NK = torch.randn(num_outputs, num_inputs, device=device, dtype=torch.bfloat16)
    has_tma = torch.cuda.get_device_capability(device)[0] >= 9
    sizes = itertools.product(
        (64, 128), (128, 256), (64, 128), (4, 8), (3, 4, 5), (False, True) if has_tma else (False,)
    )
    tiles = [Tile(*size) for size in sizes]
    for scheme in (scheme for scheme in ("int8", "fp8") if support(scheme, device=device) is None):
        given = (*kernels.quantize(x_MK, scheme=scheme), *kernels.quantize(weight_NK, scheme=scheme))
        for tile in tiles:
            options: dict[str, Any] = {"bias_N": None, "gelu": False, "dtype": torch.bfloat16, "tile": tile}
            try:
                seconds = measure_seconds(functools.partial(kernels.matmul, *given, **options), device=device)
            except OutOfResources:
                continue  # too much shared memory: not a candidate on this machine
            tflops = 2e-12 * num_tokens * num_inputs * num_outputs / seconds
            rows.append({"scheme": scheme, "tile": str(tile), "seconds": seconds, "tflops": tflops})
    return sorted(rows, key=lambda row: row["seconds"])


def main() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = device.type == "cuda"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=32760 if on_gpu else 1024)
    parser.add_argument("--layers", nargs="+", default=WAN if on_gpu else SMALL)
    parser.add_argument("--tiles", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    layers = [tuple(map(int, layer.split("x"))) for layer in options.layers]
    report: dict[str, Any] = {"machine": machine_name(device), "ceilings_tflops": measure_ceilings(device), "rows": []}
    print(report["machine"], *(f"{name} {value:.3g} TFLOP/s" for name, value in report["ceilings_tflops"].items()))
    for num_inputs, num_outputs in layers:
        for row in measure_layer(options.tokens, num_inputs, num_outputs, device=device):
            ceiling = report["ceilings_tflops"].get(row["way"].split("_")[0].split(",")[0])
            share = f"{row['tflops'] / ceiling:5.0%} of ceiling" if ceiling else ""
            print(
                f"{num_inputs:6} x {num_outputs:<6} {row['way']:20} {row['seconds'] * 1e3:9.3f} ms "
                f"{row['tflops']:9.3g} TFLOP/s {row['speedup']:6.2f}x {share}"
            )
            report["rows"].append(row)
        if options.tiles and on_gpu:
            report["tiles"] = measure_tiles(options.tokens, num_inputs, num_outputs, device=device)
            for row in report["tiles"][:8]:
                print(f"    {row['scheme']:5} {row['tflops']:8.1f} TFLOP/s {row['tile']}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
