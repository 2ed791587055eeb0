"""The table of docs/passes.md: its rows from given figures, and a run with a tiny model."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

import fidelity_pocket
from tests.benchmarks.conftest import FOLDER


def row(asked: str, *, changed: float | None) -> dict[str, object]:
    figures = {"median": 30.0, "p5": 20.0}
    seconds = {} if changed is None else {"denoise_seconds": {"base": 4.0 + changed, "changed": changed}}
    clips = [{"prompt": "a ball", **seconds}]
    return {
        **{"asked": asked, "exactness": "approximate", "clips": clips, "floor": None, "psnr": figures},
        **{"ssim": None, "latent_cosine": {"median": 1.0, "p5": 1.0}, "latent_snr": {"median": None, "p5": 3.0}},
    }


def test_speed_is_that_of_the_fastest_clips() -> None:
    """Clips without the pass are the same in all rows, so the fastest of them all counts."""
    table = fidelity_pocket.table([row("int8", changed=2.0), row("fp8", changed=12.0)])
    assert table.splitlines()[2:] == [
        "| `int8` | approximate | 30.0 (20.0) |  | 1.0000 | equal (3.0) | 3.00 |",
        "| `fp8` | approximate | 30.0 (20.0) |  | 1.0000 | equal (3.0) | 0.50 |",
    ]
    assert fidelity_pocket.table([row("int8", changed=None)]).endswith("| equal (3.0) |  |")


def test_the_table_of_the_documentation_is_that_of_the_results() -> None:
    rows = json.loads((FOLDER / "results" / "fidelity_pocket.json").read_text())["rows"]
    assert fidelity_pocket.table(rows) in (FOLDER.parent / "docs" / "passes.md").read_text()


def test_a_run(tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "found.json"
    words = ["--model", str(tiny_model_dir), "--prompts", "1", "--passes", "int8", "fused_norms", "--json", str(file)]
    monkeypatch.setattr(sys, "argv", ["fidelity_pocket.py", *words])
    fidelity_pocket.main()
    found = json.loads(file.read_text())
    assert [(made["asked"], made["exactness"]) for made in found["rows"]] == [
        ("int8", "approximate"),
        ("fused_norms", "exact"),
    ]
    assert found["rows"][0]["floor"]["exact"]
    assert found["rows"][1]["floor"] is None
    assert any("transformer" in name for name in found["model_files"])
    int8, fused = (row["psnr"]["median"] for row in found["rows"])  # None where no number differs
    assert int8 < (math.inf if fused is None else fused)
