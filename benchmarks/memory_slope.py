"""Clips after one another in one process: how much more of the host's memory is held after each.

Usage: python benchmarks/memory_slope.py [--clips 20] [--warm-up 2] [--steps 2] [--model pocket] [--json FILE]
The slope is that of the straight line nearest to what is held after each clip (least squares), the first ones left
out: they import and load. It ends with 1 if the slope is above --limit megabytes a clip.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from homereel.core.request import Request
from homereel.engine.generate import generate_file
from homereel.engine.record import machine_record, software_versions
from homereel.engine.session import Session

PROMPTS = ("a red ball bounces on a green floor", "a blue star spins", "a green cube falls")


def measure(*, model: str, clips: int, warm_up: int, steps: int, num_frames: int) -> dict[str, Any]:
    """Resident bytes after each clip, each of another seed and written to a file."""
    held = []
    with Session() as session, tempfile.TemporaryDirectory() as folder:
        for index in range(warm_up + clips):
            request = Request.parse(
                {
                    "prompt": PROMPTS[index % len(PROMPTS)],
                    "model": model,
                    "seed": index,
                    "steps": steps,
                    "num_frames": num_frames,
                }
            )
            made = generate_file(request, Path(folder) / "clip.mp4", session=session)
            size = {"width": made.plan.width, "height": made.plan.height, "num_frames": made.plan.num_frames}
            del made
            held.append(resident_bytes())
        machine = machine_record(session.machine)
    return {
        "model": model,
        **size,
        "steps": steps,
        "machine": machine,
        "software": software_versions(),
        "allocator": {name: value for name, value in os.environ.items() if name.startswith("MALLOC_")},
        "warm_up": warm_up,
        "resident_mb": [round(each / 1e6, 2) for each in held],
        "slope_mb_a_clip": round(slope(held[warm_up:]) / 1e6, 4),
    }


def slope(figures: Sequence[float]) -> float:
    """Of the straight line nearest to them, a step."""
    count = len(figures)
    middle, mean = (count - 1) / 2, sum(figures) / count
    above = sum((index - middle) * (figure - mean) for index, figure in enumerate(figures))
    return above / sum((index - middle) ** 2 for index in range(count))


def resident_bytes() -> int:
    """What of this process is in memory now, mapped files included."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmRSS; this benchmark needs Linux")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--limit", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = measure(
        model=options.model,
        clips=options.clips,
        warm_up=options.warm_up,
        steps=options.steps,
        num_frames=options.frames,
    )
    print(" ".join(f"{figure:.0f}" for figure in report["resident_mb"]), "MB")
    print(f"{report['slope_mb_a_clip']:+.3f} MB a clip")
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(0 if report["slope_mb_a_clip"] <= options.limit else 1)


if __name__ == "__main__":
    main()
