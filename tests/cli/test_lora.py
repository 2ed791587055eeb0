"""`homereel lora check`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import Cli
from tests.tiny_loras import save_lora


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    """For the tiny model; one of its layers is not there."""
    tensors = {}
    for layer in ("blocks.0.self_attn.q", "blocks.1.ffn.2", "blocks.2.self_attn.q"):
        wide = 32 if "ffn" in layer else 24
        tensors[f"diffusion_model.{layer}.lora_down.weight"] = torch.zeros(4, wide)
        tensors[f"diffusion_model.{layer}.lora_up.weight"] = torch.zeros(24, 4)
        tensors[f"diffusion_model.{layer}.alpha"] = torch.tensor(8.0)
    metadata = {"modelspec.trigger_phrase": "c4ke", "modelspec.title": "Cake\x1b[31m"}
    return save_lora(tmp_path / "Wan21_T2V_lightx2v_cake.safetensors", tensors, metadata=metadata)


def test_all_is_told_in_plain_lines(cli: Cli, lora: Path, tiny_model_dir: Path) -> None:
    shown = cli("lora", "check", lora, "--model", tiny_model_dir)
    assert (shown.code, shown.err) == (0, "")
    lines = {line.split("  ")[0]: line for line in shown.out.splitlines()}
    for name, words in {
        "format": "comfyui",
        "made for": "Wan of another size",
        "rank": "4",
        "alpha": "8",
        "holds": "3 layers, 9 tensors; F32",
        "trigger words": "c4ke",
        "few steps": "lightx2v: 4 steps, guidance 1, shift 5, euler",
        "applies": "6 of 9 tensors, to 2 weights",
    }.items():
        assert words in lines[name]
    assert "3 of its tensors do not apply: the model has no such layer" in shown.out
    assert "\x1b" not in shown.out


def test_the_same_for_programs(cli: Cli, lora: Path, tiny_model_dir: Path) -> None:
    told = cli("lora", "check", lora, "--model", tiny_model_dir, "--json").json
    assert {"format", "family", "ranks", "alphas", "trigger_words", "expert", "settings", "candidates"} <= set(told)
    assert told["settings"]["steps"] == 4
    assert len(told["comparison"]["matched"]) == 6
    assert told["comparison"]["unmatched"][0]["key"].startswith("diffusion_model.blocks.2.")
    assert told["usable"]


def test_nothing_that_applies_is_an_exit_code(cli: Cli, tmp_path: Path, tiny_model_dir: Path) -> None:
    foreign = {"lora_unet_down_blocks_0_attn.lora_down.weight": torch.zeros(4, 320)}
    shown = cli("lora", "check", save_lora(tmp_path / "a.safetensors", foreign), "--model", tiny_model_dir)
    assert (shown.code, shown.err) == (1, "")
    assert "Stable Diffusion" in shown.out
    assert "none of the models" in shown.out
    lokr = {"diffusion_model.blocks.0.self_attn.q.lokr_w1": torch.zeros(4, 4)}
    shown = cli("lora", "check", save_lora(tmp_path / "b.safetensors", lokr), "--json", "--model", tiny_model_dir)
    assert shown.code == 1
    assert shown.json["methods"] == ["LoKr"]


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("absent.safetensors", 1, "cannot be read"),
        ("a.ckpt", 1, "pickled"),
        ("broken.safetensors", 1, "fetch it again"),
    ],
)
def test_bad_files_are_one_line(cli: Cli, folder: Path, name: str, code: int, message: str) -> None:
    (folder / "broken.safetensors").write_bytes(b"no")
    refused = cli("lora", "check", name)
    assert refused.code == code
    assert message in refused.complaint


def test_no_torch_is_needed_for_a_model_that_is_here(lora: Path, tiny_model_dir: Path) -> None:
    script = (
        "import json, sys\nfrom homereel.cli.app import run\n"
        f"code = run(['lora', 'check', {str(lora)!r}, '--model', {str(tiny_model_dir)!r}, '--json'])\n"
        "print(json.dumps([code, 'torch' in sys.modules]), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert json.loads(done.stderr) == [0, False]


def test_help(cli: Cli) -> None:
    assert "check" in cli("lora", "-h").out
    assert "Usage: homereel lora check" in cli("lora", "check", "--help").out
