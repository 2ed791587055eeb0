"""Draws a bench: what a clip's seconds are made of on both sides, and how many times as fast each stage is."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from homereel.cli.bench_table import STAGES
from homereel.core.errors import InvalidRequest, UnwritableTarget

_COLOURS = {
    "load": "#b07aa1",
    "text": "#f28e2b",
    "transformer": "#4e79a7",
    "vae": "#59a14f",
    "encode": "#e15759",
    "other": "#bab0ac",
}
_SIDES = ("turbo", "baseline")  # from below


def check_chart(output: str) -> Path:
    """Where the chart goes, checked before anything is measured. Raises UnwritableTarget, or InvalidRequest if the
    library that draws is not here."""
    target = Path(output).expanduser()
    if target.suffix.lower() != ".png":
        raise UnwritableTarget(f"-o: {output!r} is no chart's name; end it with .png")
    if not target.parent.is_dir():
        raise UnwritableTarget(f"-o: there is no folder {target.parent}; make it first")
    if importlib.util.find_spec("matplotlib") is None:
        raise InvalidRequest(
            "-o: a chart is drawn by matplotlib, which is not here; `pip install 'homereel[train]'` brings it, "
            "or leave -o out: table and --json tell the same",
            field="output",
        )
    return target


def draw_chart(found: Mapping[str, Any], target: Path) -> None:
    """Write a PNG. Raises UnwritableTarget."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (whole, stages) = pyplot.subplots(1, 2, figsize=(11, 3.2), width_ratios=(3, 2))
    _draw_split(whole, found)
    _draw_ratios(stages, found)
    base, machine = found["plans"]["baseline"], found["machine"]
    figure.suptitle(
        f"{Path(base['model']).name}, {base['width']}x{base['height']}, {base['num_frames']} frames, prompt to file, "
        f"warm, on {machine['device']} ({machine['num_threads']} threads)",
        fontsize=10,
    )
    figure.tight_layout()
    try:
        figure.savefig(target, dpi=120)
    except OSError as error:
        raise UnwritableTarget(f"{target} cannot be written: {error.strerror or error}") from None
    finally:
        pyplot.close(figure)


def _draw_split(axis: Any, found: Mapping[str, Any]) -> None:
    for row, side in enumerate(_SIDES):
        left = 0.0
        for stage, title in STAGES.items():
            seconds = found["split"][side][stage]
            axis.barh(row, seconds, left=left, color=_COLOURS[stage], label=title if row == 0 else None)
            left += seconds
        axis.text(left, row, f"  {found[f'{side}_seconds']:.2f} s", va="center", fontsize=9)
    axis.set_yticks(range(len(_SIDES)), [_name(found, side) for side in _SIDES], fontsize=9)
    axis.set_xlim(0, 1.15 * max(found["baseline_seconds"], found["turbo_seconds"]))
    axis.set_xlabel("seconds")
    axis.legend(fontsize=7, loc="lower right")


def _draw_ratios(axis: Any, found: Mapping[str, Any]) -> None:
    shown = {"a clip": found["ratio"], "transformer": found["transformer_ratio"], "VAE": found["vae_ratio"]}
    shown["first clip"] = found["cold"]["ratio"]
    known = {title: ratio for title, ratio in shown.items() if ratio is not None}
    bars = axis.bar(list(known), list(known.values()), color="#4e79a7")
    axis.bar_label(bars, labels=[f"{ratio:.1f}x" for ratio in known.values()], fontsize=9)
    axis.axhline(1, color="black", linewidth=0.8)
    axis.set_ylim(0, 1.15 * max([1.0, *known.values()]))
    axis.set_ylabel("times as fast")


def _name(found: Mapping[str, Any], side: str) -> str:
    plan = found["plans"][side]
    program = "diffusers" if side == "baseline" else "homereel"
    return f"{program}\n{plan['steps']} steps, guidance {plan['guidance']:g}"
