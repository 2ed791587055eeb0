"""A model's standard clip, prompt to file: seconds of each stage and peak memory, the first (cold) and the warm runs.

Usage: python benchmarks/standard_clip.py [--model pocket] [--runs 5] [--json FILE]
Times are of this machine and this moment: compare stages of one run, not runs of two machines.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from homereel.core.request import Request
from homereel.engine.generate import generate
from homereel.engine.session import Session

PROMPT = "a red ball bounces on a green floor"
STAGES = ("load_seconds", "text_seconds", "denoise_seconds", "decode_seconds", "write_seconds")


def measure(model: str, *, runs: int) -> dict[str, Any]:
    """One cold clip and `runs` warm ones in one session; warm figures are medians."""
    with Session() as session, tempfile.TemporaryDirectory() as folder:
        rows = [_one_clip(model, session, Path(folder) / "clip.mp4", seed=seed) for seed in range(runs + 1)]
    warm = {name: statistics.median(row[name] for row in rows[1:]) for name in rows[0]}
    plan = generate_plan(model)
    return {"model": model, "prompt": PROMPT, "plan": plan, "cold": rows[0], "warm": warm, "num_warm": runs}


def generate_plan(model: str) -> dict[str, Any]:
    """The settled standard clip."""
    from homereel.engine.generate import make_plan

    with Session() as session:
        return {**asdict(make_plan(Request(prompt=PROMPT, model=model), session=session)), "seed": None}


def _one_clip(model: str, session: Session, target: Path, *, seed: int) -> dict[str, float]:
    started = time.perf_counter()
    result = generate(Request(prompt=PROMPT, model=model, seed=seed), session=session)
    result.save(target)
    figures = {name: float(getattr(result.timing, name)) for name in STAGES}
    return {**figures, "total_seconds": time.perf_counter() - started, "peak_bytes": float(result.peak_bytes)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = measure(options.model, runs=options.runs)
    for name in (*STAGES, "total_seconds"):
        print(f"{name:16} cold {report['cold'][name]:7.2f}   warm {report['warm'][name]:7.2f}")
    print(f"{'peak':16} {report['warm']['peak_bytes'] / 2**20:.0f} MiB")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
