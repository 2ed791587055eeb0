"""`homereel bench` with a tiny model: JSON, table, chart, and what it refuses before anything runs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from PIL import Image

from homereel.cli.bench_chart import draw_chart
from homereel.cli.bench_table import show_bench
from homereel.engine.bench import process
from tests.cli.conftest import Cli
from tests.engine.test_bench import in_this_process

KEYS = {
    *("baseline_seconds", "turbo_seconds", "ratio", "baseline_transformer_seconds", "turbo_transformer_seconds"),
    *("transformer_ratio", "vae_ratio", "baseline_exam", "turbo_exam", "split", "cold", "peak"),
}


@pytest.fixture
def bench(cli: Cli, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """`bench("--steps", 2)` of the tiny model, both sides in this process."""
    monkeypatch.setattr(process, "start_side", in_this_process)
    return lambda *words, **more: cli("bench", "-m", tiny_model_dir, "--baseline-steps", "3", *words, **more)


def test_json_table_and_chart(bench: Cli, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = bench("--steps", "2", "--json", "-o", "bench.png")
    assert done.code == 0, done.err
    found = done.json
    assert set(found) >= KEYS
    assert (found["baseline_exam"], found["turbo_exam"]) == (None, None)
    assert (found["plans"]["baseline"]["steps"], found["plans"]["turbo"]["steps"]) == (3, 2)
    with Image.open(folder / "bench.png") as picture:
        assert picture.width > 500

    show_bench(found | {"exam_clips": 256, "baseline_exam": 0.875, "turbo_exam": 0.86})
    shown = capsys.readouterr().out
    for words in ("times as fast", "transformer", "VAE", "encoding", "new process", "peak memory", "87.5 %", "86.0 %"):
        assert words in shown
    assert "diffusers' WanPipeline" in shown
    assert "note: " in shown
    assert "no student" in shown
    with pytest.raises(Exception, match="cannot be written"):
        draw_chart(found, folder / "nowhere" / "bench.png")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("-o", "bench.jpg"), "end it with .png"),
        (("-o", "nowhere/bench.png"), "there is no folder nowhere"),
        (("--baseline-dtype", "float8"), "float32, bfloat16, float16"),
        (("--exam", "2"), "show no motion"),
        (("--turbo-model", "no-such-model"), "no-such-model"),
        (("--passes", "warp"), "warp"),
    ],
)
def test_refusals_cost_nobody_time(
    bench: Cli, words: tuple[str, ...], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("nothing may be started")

    monkeypatch.setattr(process, "start_side", never)
    done = bench(*words)
    assert done.code == 2
    assert complaint in done.complaint


def test_a_chart_needs_its_library(bench: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "matplotlib" else real(name, *more)
    )
    done = bench("-o", "bench.png")
    assert done.code == 2
    assert "homereel[train]" in done.complaint


def test_the_exam_grades_both_sides(bench: Cli) -> None:
    """The tiny model knows nothing, so neither side may score."""
    done = bench("--steps", "1", "--exam", "1", "--frames", "9", "--size", "48x48", "--json")
    assert done.code == 0, done.err
    assert (done.json["baseline_exam"], done.json["turbo_exam"], done.json["exam_clips"]) == (0, 0, 1)
