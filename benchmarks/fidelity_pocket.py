"""What each pass does to clips of the built-in model, seed by seed: the table of docs/passes.md, as Markdown.

Usage: python benchmarks/fidelity_pocket.py [--prompts 8] [--passes int8 step_cache:taylor ...]
       [--json benchmarks/results/fidelity_pocket.json]

A row is what `homereel fidelity --model pocket --passes … --prompts 8` tells, of the same clips. Two plain runs of
each clip are compared once, in the first row. All figures but the speed are the same on every machine, but for
rounding. The speed is that of the fastest clip with the pass against the fastest of all clips without, since other work
can only add time; it means something where the machine is quiet. --table prints the table of a JSON that is there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from homereel.cli.fidelity_prompts import choose_subjects
from homereel.core.request import Request
from homereel.engine.fidelity import measure_fidelity
from homereel.engine.record import machine_record, software_versions
from homereel.engine.session import Session
from homereel.models.registry import model_facts

MODEL = "pocket"
PASSES = (
    "fused_norms",
    "int8",
    "sparse_attention:0.5",
    "step_cache:first_block",
    "step_cache:taylor",
)
_FORMS = {"psnr": ".1f", "ssim": ".3f", "latent_cosine": ".4f", "latent_snr": ".1f"}


def measure(passes: Sequence[str], *, num_prompts: int, model: str = MODEL) -> dict[str, Any]:
    """A row for each, all in one session and on the same clips."""
    base = Request(prompt="a clip", model=model)
    vocabulary = model_facts(model).vocabulary()
    subjects = choose_subjects(prompts=(), num=num_prompts, seed=0, vocabulary=vocabulary)
    rows: list[dict[str, Any]] = []
    plan: dict[str, Any] = {}
    with Session() as session:
        for index, words in enumerate(passes):
            found = measure_fidelity(
                base,
                base.replace(passes=words),
                subjects=subjects,
                session=session,
                num_again=None if index == 0 else 0,
            )
            told = found.as_dict()
            plan = told.pop("base")
            told.pop("changed")
            rows.append(
                {"asked": words, "passes": list(found.other.passes), "exactness": found.other.exactness, **told}
            )
            print(line(rows[-1], fastest=_fastest(rows, "base")), flush=True)
        return {
            "command": "python benchmarks/fidelity_pocket.py " + " ".join(sys.argv[1:]),
            "model_files": session.file_hashes(),
            "machine": machine_record(session.machine),
            "software": software_versions(),
            "plan": plan,
            "rows": rows,
        }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """All rows in Markdown: medians, and the 5th percentile in brackets; first the clips without passes made twice."""
    fastest = _fastest(rows, "base")
    head = "| passes | class | frames PSNR dB | frames SSIM | latents cosine | latents SNR dB | speed |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    floor = rows[0].get("floor")
    if floor is not None:
        lines.append(f"| none, made twice | | {_cells(floor)} | 1 |")
    return "\n".join([*lines, *(line(row, fastest=fastest) for row in rows)])


def line(row: Mapping[str, Any], *, fastest: float | None) -> str:
    """One row; without a speed where no seconds are known."""
    changed = _fastest([row], "changed")
    speed = "" if fastest is None or changed is None else f"{fastest / changed:.2f}"
    return f"| `{row['asked']}` | {row['exactness']} | {_cells(row)} | {speed} |"


def _fastest(rows: Sequence[Mapping[str, Any]], side: str) -> float | None:
    """Seconds of denoising of the fastest clip, if they were told."""
    clips = [clip for row in rows for clip in row["clips"] if "denoise_seconds" in clip]
    return min((clip["denoise_seconds"][side] for clip in clips), default=None)


def _cells(figures: Mapping[str, Any]) -> str:
    return " | ".join(_cell(figures[name], form) for name, form in _FORMS.items())


def _cell(figure: Mapping[str, float | None] | None, form: str) -> str:
    if figure is None:
        return ""
    median, low = ("equal" if value is None else format(value, form) for value in (figure["median"], figure["p5"]))
    return median if median == low else f"{median} ({low})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--passes", nargs="+", default=list(PASSES))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", type=Path, help="measure nothing: print the table of this JSON")
    options = parser.parse_args()
    if options.table is not None:
        print(table(json.loads(options.table.read_text())["rows"]))
        return
    report = measure(options.passes, num_prompts=options.prompts, model=options.model)
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    print("\n" + table(report["rows"]))


if __name__ == "__main__":
    main()
