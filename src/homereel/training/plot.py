"""Draws a run's log as curves, so that a look tells whether it still learns."""

from __future__ import annotations

import json
from pathlib import Path

SKIPPED = {"step", "seconds", "share", "samples", "frames", "norm", "phase"}


def plot_log(folder: Path) -> Path | None:
    """Write `folder/loss.png` from `folder/log.jsonl`; None where there is nothing to draw."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    log = folder / "log.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in SKIPPED]
    if not names:
        return None
    figure, axes = pyplot.subplots(len(names), 1, figsize=(7, 2.2 * len(names)), sharex=True, squeeze=False)
    for axis, name in zip(axes[:, 0], names, strict=True):
        known = [row for row in rows if name in row]
        axis.plot([row["step"] for row in known], [row[name] for row in known])
        axis.set_ylabel(name)
        axis.grid(visible=True, alpha=0.3)
    axes[-1, 0].set_xlabel("step")
    figure.tight_layout()
    figure.savefig(folder / "loss.png", dpi=90)
    pyplot.close(figure)
    return folder / "loss.png"
