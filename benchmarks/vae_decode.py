"""Our VAE decode against diffusers' own on the built-in model's VAE, in one run: seconds, memory, differences.

Usage: python benchmarks/vae_decode.py [--threads 1] [--rounds 5] [--json FILE]
Both get the same latents and threads and take turns, after a round that warms up; figures are medians. Seconds on the
clock grow with whatever else the machine does, seconds of the processor hardly: the ratio is told of both. Memory is
what the process holds at its most beyond what it held before, with frames dropped as they come: clips of more and more
frames, ours and then diffusers'.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attention_cpu import cpu_name
from homereel.engine.memory import peak_bytes, start_peak
from homereel.models.picture import checked_frames, to_frames
from homereel.models.registry import model_family
from homereel.models.wan.stream import decode_pieces

MODEL = "pocket"


def measure_seconds(vae: Any, size: Sequence[int], *, at_once: int, rounds: int) -> dict[str, Any]:
    """One row: a clip of this many frames, height and width."""
    latents = random_latents(vae, size)
    ways: dict[str, Callable[[], Any]] = {
        "diffusers": lambda: to_frames(vae.decode(latents, return_dict=False)[0][0]),
        "ours": lambda: list(checked_frames(decode_pieces(vae, latents, at_once=at_once))),
    }
    theirs = vae.decode(latents, return_dict=False)[0]
    ours = torch.cat(list(decode_pieces(vae, latents, at_once=at_once)), dim=2).clamp(-1, 1)
    row: dict[str, Any] = {"frames_height_width": list(size), "at_once": at_once}
    row["largest_difference"] = float((ours - theirs).abs().max())
    clock: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter(), time.process_time()
            way()
            clock[name].append(time.perf_counter() - started[0])
            processor[name].append(time.process_time() - started[1])
    for kind, times in (("clock", clock), ("processor", processor)):
        row[f"{kind}_seconds"] = {name: statistics.median(each) for name, each in times.items()}
        row[f"{kind}_ratio"] = row[f"{kind}_seconds"]["diffusers"] / row[f"{kind}_seconds"]["ours"]
    return row


def measure_memory(vae: Any, size: Sequence[int], *, at_once: int, ours: bool) -> int:
    """Bytes at most, beyond those before."""
    latents = random_latents(vae, size)
    gc.collect()
    give_back()
    start_peak("cpu")
    before = peak_bytes("cpu")
    if ours:
        for _ in checked_frames(decode_pieces(vae, latents, at_once=at_once)):
            pass
    else:
        to_frames(vae.decode(latents, return_dict=False)[0][0])
    return peak_bytes("cpu") - before


def random_latents(vae: Any, size: Sequence[int]) -> Tensor:
    """As the decoder takes them."""
    config, (frames, height, width) = vae.config, size
    side = config.scale_factor_spatial
    shape = (1, config.z_dim, (frames - 1) // config.scale_factor_temporal + 1, height // side, width // side)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def give_back() -> None:
    """What was freed back to the system, as far as the C library can; else the next figure is too small."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@torch.inference_mode()
def measure(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The report, a row longer each time."""
    family: Any = model_family(MODEL)
    vae: Any = family.load("vae", device="cpu", dtype="float32")
    report: dict[str, Any] = {"model": MODEL, "cpu": cpu_name(), "torch": torch.__version__, "dtype": "float32"}
    report |= {"threads": torch.get_num_threads(), "rounds": options.rounds, "rows": [], "memory": []}
    for size in options.sizes:
        at_once = family.latents_at_once(width=size[2], height=size[1], item_bytes=4)
        report["rows"].append(measure_seconds(vae, size, at_once=at_once, rounds=options.rounds))
        print(line_of(report["rows"][-1]), flush=True)
        yield report
    side = options.memory_side
    at_once = family.latents_at_once(width=side, height=side, item_bytes=4)
    for ours in (True, False):
        for frames in options.memory_frames:
            most = measure_memory(vae, (frames, side, side), at_once=at_once, ours=ours)
            way = "ours" if ours else "diffusers"
            report["memory"].append({"way": way, "frames_height_width": [frames, side, side], "peak_bytes": most})
            print(f"{way:9} {frames:4} frames of {side}: {most / 2**20:7.0f} MiB", flush=True)
            yield report


def line_of(row: dict[str, Any]) -> str:
    ways = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in row["clock_seconds"].items())
    told = f"{ways}: {row['clock_ratio']:.2f}x by the clock, {row['processor_ratio']:.2f}x of the processor"
    return f"{row['frames_height_width']}: {told}, largest difference {row['largest_difference']:.1e}"


def size_of(text: str) -> tuple[int, ...]:
    """33x96x96."""
    return tuple(int(part) for part in text.split("x"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=size_of, nargs="*", default=[(33, 96, 96), (33, 160, 160)])
    parser.add_argument("--memory-frames", type=int, nargs="*", default=[17, 49, 97])
    parser.add_argument("--memory-side", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for report in measure(options):
        if options.json:
            options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
