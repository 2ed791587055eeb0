"""Shows a bench as a table: a row a stage, a column a side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homereel.cli.output import bytes_text, one_line

STAGES = {
    "load": "loading",
    "text": "text",
    "transformer": "transformer",
    "vae": "VAE",
    "encode": "encoding",
    "other": "other",
}


def show_bench(found: Mapping[str, Any]) -> None:
    """Print what `homereel bench --json` would tell, for a person."""
    from rich.console import Console
    from rich.table import Table

    plans, machine = found["plans"], found["machine"]
    base = plans["baseline"]
    order = "in turn" if found["interleaved"] else "one side after the other, for want of memory"
    print(
        f"{base['width']}x{base['height']}, {base['num_frames']} frames, {base['num_tokens']:,} tokens, "
        f"on {machine['device']} ({one_line(machine['name'])}, {machine['num_threads']} threads)"
    )
    for name, how in (("baseline", "diffusers' WanPipeline"), ("turbo", "homereel")):
        print(f"{name:<8}  {how}: {one_line(_settings(plans[name]))}")
    print(f"warm figures are medians of {found['num_warm']} clips a side, made {order}\n")
    table = Table(box=None, pad_edge=False)
    table.add_column("prompt to file")
    for title in ("baseline", "turbo", "times as fast"):
        table.add_column(title, justify="right")
    for cells in _rows(found):
        table.add_row(*cells)
    Console(markup=False, highlight=False).print(table)
    for remark in found["remarks"]:
        print(f"note: {one_line(remark)}")


def _settings(plan: Mapping[str, Any]) -> str:
    passes = f", {', '.join(plan['passes'])}" if plan["passes"] else ""
    return f"{plan['model']}, {plan['steps']} steps, guidance {plan['guidance']:g}, {plan['dtype']}{passes}"


def _rows(found: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    split, cold, peak = found["split"], found["cold"], found["peak"]
    rows = [_seconds("a clip, warm", found["baseline_seconds"], found["turbo_seconds"])]
    for stage, title in STAGES.items():
        pair = (split["baseline"][stage], split["turbo"][stage])
        if max(pair) >= 0.0005:
            rows.append(_seconds(f"  {title}", *pair))
    rows.append(_seconds("the first, from a new process", cold["baseline_seconds"], cold["turbo_seconds"]))
    rows.append(("peak memory", bytes_text(peak["baseline_bytes"]), bytes_text(peak["turbo_bytes"]), ""))
    if found["exam_clips"]:
        baseline, turbo = (f"{100 * found[f'{name}_exam']:.1f} %" for name in ("baseline", "turbo"))
        rows.append((f"exam, {found['exam_clips']} clips", baseline, turbo, ""))
    return rows


def _seconds(title: str, baseline: float, turbo: float) -> tuple[str, str, str, str]:
    ratio = f"{baseline / turbo:.1f}" if turbo > 0 and baseline > 0 else ""
    return title, f"{baseline:.3f} s", f"{turbo:.3f} s", ratio
