"""Draws the rows of the GPU benchmark: seconds of each variant beside the least that they could be."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def draw(rows: Sequence[dict[str, Any]], target: Path) -> Path | None:
    """One panel a size and resolution; None where matplotlib is not installed or nothing was measured."""
    measured = [row for row in rows if "seconds" in row]
    if not measured or find_spec("matplotlib") is None:
        return None
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    groups: dict[str, list[dict[str, Any]]] = {}
    for row in measured:
        groups.setdefault(f"{row['size']} {row['resolution']}", []).append(row)
    heights = [0.9 + 0.3 * len(group) for group in groups.values()]
    figure, axes = pyplot.subplots(
        len(groups), 1, figsize=(8, sum(heights)), squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for axis, (title, group) in zip(axes[:, 0], groups.items(), strict=True):
        names = [row["variant"] for row in group]
        axis.barh(names, [row["seconds"] for row in group], color="#5b8db8", label="measured")
        floors = [row.get("floor_matrix_seconds") or 0 for row in group]
        axis.barh(names, floors, height=0.35, color="#1f3a52", label="matrix products at the ceiling")
        axis.bar_label(axis.containers[0], fmt="%.3g s", padding=3, fontsize=8)
        axis.invert_yaxis()
        axis.margins(x=0.12)
        axis.set_title(title, fontsize=10, loc="left")
        axis.tick_params(labelsize=8)
    axes[0, 0].legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(target, dpi=100)
    pyplot.close(figure)
    return target
