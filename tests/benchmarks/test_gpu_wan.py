"""The GPU benchmark at toy sizes on the CPU: its rows, its arithmetic, and what it does when something fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import gpu_wan
import stopwatch
import wan_rows
from homereel.passes import parse_passes
from tests.benchmarks.conftest import FOLDER
from wan_cases import RESOLUTIONS, SIZES, TOY_RESOLUTIONS, TOY_SIZES, VARIANTS, Work, floor_seconds, forward_work
from wan_network import random_inputs, random_transformer

SIZE, RESOLUTION = TOY_SIZES["toy"], TOY_RESOLUTIONS["toy"]
# What a machine need not have to run it: all that homereel depends on, apart from torch, numpy and diffusers.
HIDDEN = ("pydantic", "pydantic_core", "av", "typer", "rich", "gguf", "ftfy")
RUN_WITHOUT = f"""
import runpy, sys
for name in {HIDDEN}:
    sys.modules[name] = None
sys.path.insert(0, {str(FOLDER)!r})
runpy.run_path({str(FOLDER / "gpu_wan.py")!r}, run_name="__main__")
"""

Report = dict[str, Any]
Run = Callable[..., Report]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("--variants", "dense")` in this process, with what the file says in the end."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu_wan, "measure_ceilings", lambda **_: {"fp32_tflops": 0.1, "copy_gb_per_second": 10.0})

    def invoke(*words: str) -> Report:
        monkeypatch.setattr(sys, "argv", ["gpu_wan.py", "--toy", "--repeat", "1", "--out", str(tmp_path), *words])
        gpu_wan.main()
        report: Report = json.loads((tmp_path / "gpu_wan.json").read_text())
        return report

    return invoke


@pytest.mark.slow
def test_it_runs_with_little_installed(tmp_path: Path) -> None:
    """A whole run in a process of its own: transformer, passes, decoder, a variant that does not exist, and one that
    a CPU cannot compute."""
    variants = ["dense", "norms", "sla15", "sla10, int8", "sla10 8-bit, int8", "int9", "vae"]
    words = ["--toy", "--repeat", "2", "--out", str(tmp_path), "--variants", *variants]
    done = subprocess.run(
        [sys.executable, "-c", RUN_WITHOUT, *words], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "gpu_wan.json").read_text())
    rows = {row["variant"]: row for row in report["rows"]}
    assert "did you mean int8?" in rows.pop("int9")["error"]
    assert "8-bit attention needs an NVIDIA GPU" in rows.pop("sla10 8-bit, int8")["error"]
    assert set(rows) == {"dense", "norms", "sla15", "sla10, int8", "vae"}
    for row in rows.values():
        assert row["seconds"] > 0
        assert len(row["runs"]) == 2
        assert row["share_of_roofline"] == row["floor_matrix_seconds"] / row["seconds"]
    # The same in another order of rounding; a wrong rotation or modulation is off by a tenth and more.
    assert rows["norms"]["relative_error"] < 1e-5
    # One of two blocks is kept, of weights that attend to everything; and layers in 8 bits.
    assert 1e-5 < rows["sla15"]["relative_error"] < rows["sla10, int8"]["relative_error"] < 0.5
    assert report["ceilings"]["fp32_tflops"] > 0
    assert report["machine"]["torch"] == torch.__version__
    assert (tmp_path / "gpu_wan.png").stat().st_size > 1000
    assert "did you mean int8?" in done.stdout


def test_one_failure_leaves_the_others(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = wan_rows.forward_row

    def fails_once(passes: str, *rest: Any, **more: Any) -> dict[str, Any]:
        if passes == "fused_norms":
            raise RuntimeError("an illegal\nmemory access")
        return measure(passes, *rest, **more)

    monkeypatch.setattr(gpu_wan, "forward_row", fails_once)
    rows = run("--variants", "norms", "dense")["rows"]
    assert rows[0]["error"] == "RuntimeError: an illegal memory access"
    assert rows[1]["seconds"] > 0


def test_a_lost_device_starts_anew(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(gpu_wan, "_device_works", lambda _: False)
    monkeypatch.setattr(os, "execv", lambda _, words: started.append(words))
    run("--variants", "int9", "--limit-seconds", "500")
    (words,) = started
    assert words[-1] == "--resume"
    (left,) = [word for word in words if word.startswith("--limit-seconds=")]
    assert 0 < float(left.partition("=")[2]) <= 500
    assert "500" not in words


def test_it_stops_in_time_and_goes_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = run("--variants", "dense", "norms", "--limit-seconds", "0")["rows"]
    assert [row["skipped"] for row in rows] == ["no time left"] * 2
    first = run("--variants", "dense", "int9", "--resume")["rows"]
    assert [row["variant"] for row in first] == ["norms", "dense", "int9"]

    def untouched(*_: object, **__: object) -> dict[str, Any]:
        raise AssertionError("it was measured before")

    monkeypatch.setattr(gpu_wan, "forward_row", untouched)
    assert run("--variants", "dense", "int9", "--resume")["rows"] == first


def test_a_row_that_hangs_ends_the_process(tmp_path: Path) -> None:
    program = f"""
import sys, time
sys.path.insert(0, {str(FOLDER)!r})
import gpu_wan
gpu_wan._GRACE_SECONDS = 0
gpu_wan.measure_ceilings = lambda **_: {{"fp32_tflops": 0.1, "copy_gb_per_second": 10.0}}
gpu_wan.forward_row = lambda *_, **__: time.sleep(100)
gpu_wan.main()
"""
    words = ["--toy", "--out", str(tmp_path), "--variants", "dense", "--limit-seconds", "1"]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, check=False, timeout=90)
    assert done.returncode == 3
    assert json.loads((tmp_path / "gpu_wan.json").read_text())["rows"][0]["error"] == gpu_wan.DIED


def test_a_limit_ends_with_the_run(run: Run) -> None:
    run("--variants", "dense", "--limit-seconds", "0")
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_a_killed_row_is_told(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object, **__: object) -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu_wan, "forward_row", killed)
    with pytest.raises(KeyboardInterrupt):
        run("--variants", "dense")
    assert json.loads((tmp_path / "gpu_wan.json").read_text())["rows"][0]["error"] == gpu_wan.DIED


def test_wrong_numbers_are_no_result(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        wan_rows, "random_inputs", lambda *a, **b: random_inputs(*a, **b) | {"timestep": torch.tensor([torch.nan])}
    )
    assert "not finite" in run("--variants", "dense")["rows"][0]["error"]


def test_work_is_what_the_network_does() -> None:
    """Counted by PyTorch, operation by operation; attention as plain products, so that these are counted, too."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    network = random_transformer(SIZE, device="cpu", dtype=torch.float32)
    inputs = random_inputs(SIZE, RESOLUTION, device="cpu", dtype=torch.float32)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(**inputs)
    work = forward_work(SIZE, num_tokens=RESOLUTION.num_tokens)
    counted = sum(work.by_format().values())
    assert counted == pytest.approx(counter.get_total_flops(), rel=1e-9)


@pytest.mark.parametrize(
    ("size", "resolution", "linear", "attention"), [("1.3B", "480p", 82, 198), ("14B", "720p", 1807, 4682)]
)
def test_published_shapes(size: str, resolution: str, linear: float, attention: float) -> None:
    """TFLOP a forward, as others count them: 0.2 %, because they are told in whole ones."""
    work = forward_work(SIZES[size], num_tokens=RESOLUTIONS[resolution].num_tokens)
    assert work.linear / 1e12 == pytest.approx(linear, rel=2e-3)
    assert work.attention / 1e12 == pytest.approx(attention, rel=2e-3)


def test_work_of_passes() -> None:
    tokens = RESOLUTIONS["480p"].num_tokens
    dense = forward_work(SIZES["1.3B"], num_tokens=tokens)
    fast = forward_work(SIZES["1.3B"], num_tokens=tokens, passes="sparse_attention:0.1:first_layers=0,int8")
    assert fast.attention / dense.attention == pytest.approx(51 / 512)  # a tenth of 512 blocks, in whole ones
    assert fast.by_format() == {"bf16": fast.attention + fast.other, "int8": dense.linear}
    assert forward_work(SIZE, num_tokens=100, passes="sparse_attention:0.1").attention > 0  # one block at least
    eight_bit = forward_work(SIZES["1.3B"], num_tokens=tokens, passes=VARIANTS["sla10 8-bit, int8"])
    half = fast.attention / 2
    assert eight_bit.by_format() == {"bf16": fast.other, "int8": dense.linear + half, "fp8": half}


def test_variants_are_passes_and_all_differ() -> None:
    read = {name: tuple(each.spec for each in parse_passes(passes)) for name, passes in VARIANTS.items()}
    assert len(set(read.values())) == len(read)
    for name, specs in read.items():
        assert ("eight_bit=yes" in str(specs)) == ("8-bit" in name)
        assert ("sparse_attention:0.1:" in str(specs)) == ("sla10" in name)
        assert ("sparse_attention:0.15:" in str(specs)) == ("sla15" in name)


def test_floor() -> None:
    work = Work(linear=4e12, attention=3e12, linear_format="int8", other=1e12, elementwise_bytes=2e9)
    ceilings = {"bf16_tflops": 2.0, "int8_tflops": 8.0, "fp8_tflops": None, "copy_gb_per_second": 4.0}
    assert floor_seconds(work, ceilings) == (2.5, 0.5)
    fp8 = Work(linear=4e12, attention=3e12, linear_format="fp8", elementwise_bytes=2e9)
    assert floor_seconds(fp8, ceilings) == (None, 0.5)


def test_the_same_weights_each_time() -> None:
    first, second = (random_transformer(SIZE, device="cpu", dtype=torch.bfloat16) for _ in range(2))
    for (name, a), b in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b), name
        assert a.isfinite().all()
    assert first.blocks[0].scale_shift_table.dtype == torch.float32  # as the engine loads it
    assert first.blocks[0].attn1.to_q.weight.dtype == torch.bfloat16
    assert not any(tensor.is_meta for tensor in [*first.parameters(), *first.buffers()])


def test_ceilings() -> None:
    """A product that is not there is told and does not stop the others."""
    found = stopwatch.measure_ceilings(device="cpu", toy=True)
    assert min(found[name] for name in ("bf16_tflops", "fp32_tflops", "int8_tflops", "copy_gb_per_second")) > 0


def test_a_ceiling_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "_int_mm")
    found = stopwatch.measure_ceilings(device="cpu", toy=True)
    assert found["int8_tflops"] is None
    assert "_int_mm" in found["failed"]["int8"]
    assert found["fp32_tflops"] > 0
