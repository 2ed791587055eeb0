"""`homereel models import`: from a file of ComfyUI's to a finished clip."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel

from tests.cli.conftest import Cli
from tests.models.original_names import State, fp8_scaled, original_state, original_wan, save
from tests.weights.test_locked_process import needs_linux


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMEREEL_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def state(tiny_model_dir: Path) -> State:
    network: Any = WanTransformer3DModel.from_pretrained(tiny_model_dir / "transformer")
    return original_state(network, original_wan)


def test_a_file_is_imported_and_makes_a_clip(cli: Cli, folder: Path, tiny_model_dir: Path, state: State) -> None:
    file = save(fp8_scaled(state), folder / "tiny_fp8_scaled.safetensors", prefix="model.diffusion_model.")
    done = cli("models", "import", file, "--name", "mine", "--base", tiny_model_dir, "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json["id"] == "mine"
    assert done.json["family"] == "wan"
    assert done.json["num_bytes"] > 0
    made = cli("generate", "a red ball", "--model", done.json["path"], "--seed", "1", "-o", "a.mp4", "--json")
    assert made.code == 0, made.err
    again = cli("models", "import", file, "--name", "mine", "--base", tiny_model_dir)
    assert again.code == 2
    assert "imported before" in again.complaint


def test_people_are_told_what_was_done(cli: Cli, folder: Path, tiny_model_dir: Path, state: State) -> None:
    file = save(fp8_scaled(state), folder / "a.safetensors")
    done = cli("models", "import", file, "--base", tiny_model_dir)
    assert done.code == 0
    assert "--model a" in done.out
    assert "multiplied by their scales" in done.err
    assert "converted" in done.err
    assert all(line.startswith("homereel: ") for line in done.err.splitlines())
    quiet = cli("models", "import", file, "--base", tiny_model_dir, "--name", "b", "-q")
    assert "converted" not in quiet.err


@needs_linux
def test_a_pth_is_opened_in_a_locked_process_and_makes_a_clip(
    cli: Cli, folder: Path, tiny_model_dir: Path, state: State
) -> None:
    torch.save({"state_dict": {"net." + name: tensor for name, tensor in state.items()}}, folder / "tiny.pth")
    done = cli("models", "import", "tiny.pth", "--base", tiny_model_dir, "-q")
    assert done.code == 0, done.err
    assert "could reach neither files nor network" in done.err
    assert "filter of system calls" in done.err
    made = cli("generate", "a red ball", "--model", "tiny", "--seed", "1", "-o", "a.mp4", "--json")
    assert made.code == 0, made.err


def test_lost_scales_are_one_line_and_no_model(cli: Cli, folder: Path, tiny_model_dir: Path, state: State) -> None:
    kept = {name: tensor for name, tensor in fp8_scaled(state).items() if not name.endswith("scale_weight")}
    refused = cli("models", "import", save(kept, folder / "a.safetensors"), "--base", tiny_model_dir)
    assert refused.code == 1
    assert "its scale is missing" in refused.complaint
    assert not list((folder.parent / "home").rglob("*.json"))


def test_a_real_model_names_the_base_that_must_be_pulled(cli: Cli, folder: Path) -> None:
    """The header of Wan 2.1 1.3B and a file of its size, in which nothing was ever written."""
    with torch.device("meta"):
        network: Any = WanTransformer3DModel(num_attention_heads=12, ffn_dim=8960, num_layers=30)
    header, position = {}, 0
    for name, tensor in network.state_dict().items():
        end = position + tensor.numel() * 2
        header[original_wan(name)] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [position, end]}
        position = end
    raw = json.dumps(header).encode()
    with (folder / "wan.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + position)
    refused = cli("models", "import", "wan.safetensors")
    assert refused.code == 1
    assert "homereel models pull wan2.1-t2v-1.3b" in refused.complaint


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["no-such-file.safetensors"], 1, "cannot be read"),
        (["no-such-file.pth"], 1, "cannot be read"),
        ([], 2, "Missing argument"),
    ],
)
def test_what_cannot_be_imported(cli: Cli, words: list[str], code: int, message: str) -> None:
    refused = cli("models", "import", *words)
    assert refused.code == code
    assert message in refused.complaint
