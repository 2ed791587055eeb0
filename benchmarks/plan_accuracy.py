"""How true plans are: the built-in model at five sizes and lengths, each in a process of its own, told against planned.

Usage: python benchmarks/plan_accuracy.py [--steps 30] [--runs 1] [--calibrate] [--json FILE]
Peak memory is what the system counted for the process. With --calibrate the machine is measured right before each clip
of the first run, since the speed of a shared one changes from minute to minute. Runs after the first are told and
corrected by the ledger in HOMEREEL_HOME. Seconds are worth something on a quiet machine only.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CASES = ((64, 64, 17), (96, 96, 33), (128, 128, 33), (192, 112, 65), (256, 256, 49))
PROMPT = "a red ball bounces on a green floor"
RAM_WITHIN, SECONDS_WITHIN, LEARNT_WITHIN = 0.10, 0.25, 0.15
LEARNT = 10  # runs that the ledger has seen
_CHILD = """
import json, resource, sys
from homereel.core.request import Request
from homereel.engine.generate import generate_file
asked, target = json.loads(sys.argv[1]), sys.argv[2]
clip = generate_file(Request.parse(asked), target)
most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
split = {name: getattr(clip.timing, f"{name}_seconds") for name in ("load", "text", "denoise", "decode", "write")}
print(json.dumps({"peak": most, "split": split, "plan": clip.plan.as_dict()}))
"""


def measure(
    *, steps: int, runs: int, calibrates: bool = False, cases: tuple[tuple[int, int, int], ...] = CASES
) -> list[dict[str, Any]]:
    """A row for each run of each case, in order. With `calibrates` the machine is measured before each of the first."""
    rows = []
    for run in range(runs):
        for case in cases:
            if calibrates and run == 0:
                command = [sys.executable, "-m", "homereel", "doctor", "--calibrate"]
                subprocess.run(command, check=True, stdout=sys.stderr)
            rows.append(_run(case, steps=steps, run=run))
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The worst error in memory, and the error in seconds that nine of ten rows stay within: of first runs, and of
    those before which the ledger had seen ten; None where there are none.
    """
    memory = max(abs(row["ram_error"]) for row in rows)
    first, learnt = _p90([row for row in rows if row["run"] == 0]), _p90(rows[LEARNT:])
    return {
        "ram_error_max": round(memory, 4),
        "ram_within": memory <= RAM_WITHIN,
        "seconds_error_p90": first,
        "seconds_within": first is not None and first <= SECONDS_WITHIN,
        "learnt_seconds_error_p90": learnt,
        "learnt_seconds_within": learnt is not None and learnt <= LEARNT_WITHIN,
    }


def _p90(rows: list[dict[str, Any]]) -> float | None:
    errors = sorted(abs(row["seconds_error"]) for row in rows if row["seconds_error"] is not None)
    return round(errors[max(0, math.ceil(0.9 * len(errors)) - 1)], 4) if errors else None


def _run(case: tuple[int, int, int], *, steps: int, run: int) -> dict[str, Any]:
    width, height, num_frames = case
    size = {"width": width, "height": height, "num_frames": num_frames}
    asked = {"prompt": PROMPT, "model": "pocket", "seed": run, "steps": steps, **size}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", _CHILD, json.dumps(asked), str(Path(folder) / "clip.mp4")]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    told = json.loads(done.stdout.splitlines()[-1])
    plan, took = told["plan"], sum(told["split"].values())
    row = {
        **size,
        "run": run,
        "ram_bytes": told["peak"],
        "ram_planned": plan["peak_ram_bytes"],
        "ram_error": round(plan["peak_ram_bytes"] / told["peak"] - 1, 4),
        "seconds": round(took, 3),
        "seconds_planned": plan["seconds"],
        "seconds_error": None if plan["seconds"] is None else round(plan["seconds"] / took - 1, 4),
        "split": {name: round(value, 3) for name, value in told["split"].items()},
        "split_planned": {stage["name"]: stage["seconds"] for stage in plan["stages"]},
    }
    print(json.dumps(row), flush=True)
    return row


def main() -> None:
    """Calibrate if asked, measure, and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = measure(steps=options.steps, runs=options.runs, calibrates=options.calibrate)
    report = {"steps": options.steps, "summary": summary(rows), "rows": rows}
    print(json.dumps(report["summary"], indent=2))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
