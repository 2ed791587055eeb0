"""Seconds a forward of Wan's transformers with random weights, pass by pass, and of its video decoder, on this GPU.

Usage: PYTHONPATH=src python benchmarks/gpu_wan.py [--sizes 1.3B 14B] [--resolutions 480p 720p] [--variants ...]
       [--repeat 5] [--limit-seconds 540] [--resume] [--profile] [--out benchmarks/results]

Needs torch, triton, numpy, safetensors and diffusers, and no other part of homereel's dependencies. Every row is kept
in gpu_wan.json as soon as it is there, so that a run that is cut short loses nothing, and --resume goes on from it.
A variant is a name of the list, or passes as `homereel generate --passes` takes them. Random weights tell about speed;
how much a pass changes a picture is what `homereel fidelity` measures. --toy runs tiny shapes, on a CPU, too.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stopwatch import measure_ceilings
from wan_cases import RESOLUTIONS, SIZES, TOY_RESOLUTIONS, TOY_SIZES, VAE_VARIANTS, VARIANTS, Resolution, Size
from wan_plot import draw
from wan_rows import Setting, attention_seconds, decode_row, forward_row, machine_facts

DIED = "the process ended during this row"
_GRACE_SECONDS = 45


@dataclass(frozen=True)
class Case:
    """One row to measure; `size` is None for the decoder."""

    size_name: str
    resolution_name: str
    variant: str
    size: Size | None
    resolution: Resolution

    @property
    def key(self) -> tuple[str, str, str]:
        return self.size_name, self.resolution_name, self.variant


class Report:
    """What is known so far, on disk after each change."""

    def __init__(self, folder: Path, *, resume: bool) -> None:
        self.file = folder / "gpu_wan.json"
        folder.mkdir(parents=True, exist_ok=True)
        self.data: dict[str, Any] = {"attention": {}, "rows": []}
        if resume and self.file.exists():
            self.data = json.loads(self.file.read_text())

    @property
    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.data["rows"]
        return found

    def put(self, row: dict[str, Any]) -> None:
        """Add a row, in the place of an earlier one of the same case."""
        key = _key(row)
        self.data["rows"] = [other for other in self.rows if _key(other) != key] + [row]
        self.save()

    def done(self) -> set[tuple[str, str, str]]:
        """Cases with an answer, if only an error."""
        return {_key(row) for row in self.rows if "skipped" not in row}

    def save(self) -> None:
        partial = self.file.with_suffix(".part")
        partial.write_text(json.dumps(self.data, indent=1, allow_nan=False) + "\n")
        partial.replace(self.file)


def _key(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["size"], row["resolution"], row["variant"]


def main() -> None:
    options = _options()
    deadline = None if options.limit_seconds is None else time.monotonic() + options.limit_seconds
    report = Report(options.out, resume=options.resume)
    device = "cpu" if options.toy and not torch.cuda.is_available() else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("gpu_wan.py: torch sees no CUDA GPU here; --toy runs tiny shapes on the CPU")
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    setting = Setting(
        device=device, dtype=dtype, repeat=options.repeat, deadline=deadline, toy=options.toy, profile=options.profile
    )
    with _ended_if_hanging(options.limit_seconds):
        _measure_all(report, setting, options)
    show(report.rows)
    plot = draw(report.rows, report.file.with_suffix(".png"))
    print(f"{report.file}" + (f", {plot}" if plot else " (no plot: matplotlib is not here)"))


def _measure_all(report: Report, setting: Setting, options: argparse.Namespace) -> None:
    device = setting.device
    report.data["machine"] = machine_facts(device)
    report.data["command"] = "python benchmarks/gpu_wan.py " + " ".join(sys.argv[1:])
    report.data["note"] = "random weights; seconds are medians of one process on one machine at one moment"
    if "ceilings" not in report.data:
        report.data["ceilings"] = measure_ceilings(device=device, toy=options.toy)
    report.save()
    _show_ceilings(report.data["ceilings"])
    _run(report, setting, cases=list(_cases(options)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--resolutions", nargs="+", choices=list(RESOLUTIONS), default=list(RESOLUTIONS))
    parser.add_argument("--variants", nargs="+", default=[*VARIANTS, *VAE_VARIANTS], help="; ".join(VARIANTS))
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--limit-seconds", type=float, help="stop in time, with what there is")
    parser.add_argument("--resume", action="store_true", help="go on from the gpu_wan.json that is there")
    parser.add_argument("--profile", action="store_true", help="tell the kernels that take longest, too")
    parser.add_argument("--toy", action="store_true", help="tiny shapes, on the CPU if there is no GPU")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    if options.repeat < 1:
        parser.error("--repeat is at least 1")
    return options


def _cases(options: argparse.Namespace) -> Iterator[Case]:
    """Small before large, so that a run that is cut short has the most rows. The decoder is one for all sizes."""
    sizes = TOY_SIZES if options.toy else {name: SIZES[name] for name in options.sizes}
    resolutions = TOY_RESOLUTIONS if options.toy else {name: RESOLUTIONS[name] for name in options.resolutions}
    for size_name, size in sizes.items():
        for name, resolution in resolutions.items():
            for variant in options.variants:
                if variant not in VAE_VARIANTS:
                    yield Case(size_name, name, variant, size, resolution)
                elif size_name == next(iter(sizes)):
                    yield Case("VAE", name, variant, None, resolution)


def _run(report: Report, setting: Setting, *, cases: list[Case]) -> None:
    """All cases that have no answer yet, each in a try of its own."""
    slowest: dict[tuple[str, str], float] = {}
    references: dict[tuple[str, str], torch.Tensor] = {}
    for case in cases:
        if case.key in report.done():
            continue
        group = (case.size_name, case.resolution_name)
        named = {"size": case.size_name, "resolution": case.resolution_name, "variant": case.variant}
        left = math.inf if setting.deadline is None else setting.deadline - time.monotonic()
        if left < slowest.get(group, 0.0):
            report.put({**named, "skipped": "no time left"})
            continue
        report.put({**named, "error": DIED})
        started = time.monotonic()
        try:
            row = _measure(case, setting, report=report, references=references)
        except Exception as error:  # noqa: BLE001  # whatever a variant fails of is its result; the others go on
            row = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:600]}
        report.put({**named, **row})
        slowest[group] = max(slowest.get(group, 0.0), time.monotonic() - started)
        _show_row(report.rows[-1])
        if "error" in row and not _device_works(setting.device):
            _start_anew(setting)


def _measure(
    case: Case, setting: Setting, *, report: Report, references: dict[tuple[str, str], torch.Tensor]
) -> dict[str, Any]:
    ceilings = report.data["ceilings"]
    if case.size is None:
        return decode_row(case.variant, case.resolution, setting=setting, ceilings=ceilings)
    group = f"{case.size_name} {case.resolution_name}"
    if group not in report.data["attention"]:
        found = attention_seconds(case.size, case.resolution, setting=setting)
        report.data["attention"][group] = found
        report.save()
    return forward_row(
        VARIANTS.get(case.variant, case.variant),
        case.size,
        case.resolution,
        setting=setting,
        ceilings=ceilings,
        backends=report.data["attention"][group],
        references=references,
    )


def _device_works(device: str) -> bool:
    """Some errors leave a GPU's context unusable for the rest of the process."""
    try:
        return float(torch.ones(8, device=device).sum()) == 8
    except RuntimeError:
        return False


def _start_anew(setting: Setting) -> None:
    """The same command in a fresh process, which goes on from the file."""
    words = [word for word in sys.argv[1:] if word != "--resume"]
    if setting.deadline is not None:
        at = next(index for index, word in enumerate(words) if word.startswith("--limit-seconds"))
        left = f"--limit-seconds={max(setting.deadline - time.monotonic(), 1):.0f}"
        words[at : at + (1 if "=" in words[at] else 2)] = [left]
    print("the GPU's context is lost; a fresh process goes on", flush=True)
    os.execv(sys.executable, [sys.executable, sys.argv[0], *words, "--resume"])


@contextmanager
def _ended_if_hanging(limit_seconds: float | None) -> Iterator[None]:
    """End the process if a row does not come back long after the limit; its row says so on disk."""
    if limit_seconds is None:
        yield
        return
    timer = threading.Timer(limit_seconds + _GRACE_SECONDS, os._exit, [3])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def _show_ceilings(ceilings: dict[str, Any]) -> None:
    rates = [f"{name} {ceilings.get(f'{name}_tflops') or 0:.4g}" for name in ("bf16", "int8", "fp8", "fp32")]
    print(f"ceilings: {', '.join(rates)} TFLOP/s; copy {ceilings['copy_gb_per_second']:.4g} GB/s", flush=True)


def show(rows: list[dict[str, Any]]) -> None:
    """All rows as one table."""
    head = (
        f"{'':5} {'':5} {'variant':28} {'seconds':>9} {'x dense':>8} {'x compiled':>10} {'roofline':>9} {'peak GB':>8}"
    )
    print("\n" + head)
    seconds = {_key(row): row["seconds"] for row in rows if "seconds" in row}
    for row in rows:
        shown = f"{row['size']:5} {row['resolution']:5} {row['variant']:28.28}"
        if "seconds" not in row:
            print(f"{shown} {row.get('skipped') or row['error']:.100}")
            continue
        dense, compiled = (seconds.get((row["size"], row["resolution"], name)) for name in ("dense", "dense, compile"))
        gains = [f"{base / row['seconds']:.2f}" if base else "" for base in (dense, compiled)]
        share = row.get("share_of_roofline")
        peak = row["peak_bytes"]
        print(
            f"{shown} {row['seconds']:9.4f} {gains[0]:>8} {gains[1]:>10} "
            f"{f'{100 * share:.0f} %' if share else '':>9} {f'{peak / 1e9:.1f}' if peak else '':>8}"
        )


def _show_row(row: dict[str, Any]) -> None:
    told = f"{row['seconds']:.4f} s" if "seconds" in row else f"failed: {row['error']:.200}"
    print(f"{row['size']} {row['resolution']} {row['variant']}: {told}", flush=True)


if __name__ == "__main__":
    main()
