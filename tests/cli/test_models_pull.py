"""`homereel models pull`, `rm` and `scan`, with the real client and a hub on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.local_hub import Fault, LocalHub

MODEL, REPO = "wan2.1-t2v-1.3b", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
HUNYUAN, HUNYUAN_REPO = "hunyuanvideo-1.5", "hunyuanvideo-community/HunyuanVideo-1.5-Diffusers-480p_t2v"
VAE = "vae/diffusion_pytorch_model.safetensors"


@pytest.fixture
def tiny_hub(hub: LocalHub, tiny_model_dir: Path) -> LocalHub:
    """The tiny model under the name of a real one."""
    hub.add_folder(REPO, tiny_model_dir)
    return hub


def test_a_model_is_pulled_listed_used_and_removed(cli: Cli, tiny_hub: LocalHub, folder: Path) -> None:
    pulled = cli("models", "pull", MODEL, "--json")
    assert (pulled.code, pulled.err) == (0, "")
    assert pulled.json["id"] == MODEL
    assert pulled.json["fetched_bytes"] > 0
    listed = {model["id"]: model for model in cli("models", "--json").json["models"]}
    assert listed[MODEL]["installed"]
    assert listed[MODEL]["bytes"] < 10**7
    assert not listed["wan2.1-t2v-14b"]["installed"]
    assert VAE in cli("models", "info", "wan").out

    made = cli("generate", "a red ball", "--model", "wan2.1", "--seed", "1", "-o", "a.mp4", "--json")
    assert made.code == 0, made.err
    record = cli("info", "a.mp4", "--json").out
    assert "https://www.apache.org/licenses/LICENSE-2.0" in record
    assert f'"id": "{MODEL}"' in record

    again = cli("models", "pull", MODEL, "-q")
    assert "was here already" in again.out
    removed = cli("models", "rm", MODEL, "--json")
    assert removed.json["freed_bytes"] > 0
    assert not Path(pulled.json["path"]).exists()
    assert "not on this machine" in cli("generate", "a ball", "--model", MODEL).complaint
    assert cli("models", "rm", MODEL).code == 2


def test_progress_is_ours_alone(cli: Cli, tiny_hub: LocalHub) -> None:
    done = cli("models", "pull", MODEL, "--yes")
    assert done.code == 0
    assert "is here, checked" in done.out
    assert all(line.startswith("homereel: ") for line in done.err.splitlines())
    assert "to fetch" in done.err
    assert "free in" in done.err


def test_a_model_of_which_a_file_is_gone_is_not_installed(cli: Cli, tiny_hub: LocalHub) -> None:
    path = Path(cli("models", "pull", MODEL, "--json").json["path"])
    (path / VAE).resolve().unlink()
    listed = {model["id"]: model for model in cli("models", "--json").json["models"]}
    assert not listed[MODEL]["installed"]
    assert cli("models", "pull", MODEL, "--json").json["fetched_bytes"] > 0
    assert len(tiny_hub.fetches(VAE)) == 2


def test_a_corrupted_download_is_one_line_and_no_model(cli: Cli, tiny_hub: LocalHub) -> None:
    tiny_hub.faults[VAE] = [Fault(corrupt=True)]
    failed = cli("models", "pull", MODEL, "--json")
    assert failed.code == 1
    assert "quarantine" in failed.complaint
    assert MODEL not in [model["id"] for model in cli("models", "--json").json["models"] if model["installed"]]


def test_two_processes_fetch_once(tiny_hub: LocalHub) -> None:
    tiny_hub.faults[VAE] = [Fault(seconds=1.5)]
    command = [sys.executable, "-m", "homereel.cli", "models", "pull", MODEL, "--json"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    outcomes = [process.communicate(timeout=100) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outcomes
    assert len({json.loads(out)["path"] for out, _ in outcomes}) == 1
    num_weights = [len(tiny_hub.fetches(path)) for path in tiny_hub.files[REPO] if path.endswith(".safetensors")]
    assert num_weights == [1, 1, 1]


def test_a_restricting_licence_is_shown_and_accepted_once(cli: Cli, hub: LocalHub, tiny_model_dir: Path) -> None:
    hub.add_folder(HUNYUAN_REPO, tiny_model_dir)
    refused = cli("models", "pull", HUNYUAN, "--anyway", "--yes")
    assert refused.code == 2
    assert "not for use in the EU" in refused.complaint
    assert "--accept-licence" in refused.complaint
    assert not hub.seen
    accepted = cli("models", "pull", HUNYUAN, "--anyway", "--accept-licence", "--json")
    assert accepted.code == 0
    assert "LICENSE" in accepted.err
    cli("models", "rm", HUNYUAN)
    assert cli("models", "pull", HUNYUAN, "--anyway", "--json").err == "", "asked twice"


def test_in_a_terminal_one_is_asked(
    cli: Cli, hub: LocalHub, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add_folder(HUNYUAN_REPO, tiny_model_dir)
    monkeypatch.setattr("homereel.cli.models_pull._in_terminal", lambda: True)
    assert cli("models", "pull", HUNYUAN, "--anyway", stdin=b"n\n").code == 130
    assert cli("models", "pull", HUNYUAN, "--anyway", stdin=b"y\nn\n").code == 130, "the size is asked, too"
    assert not hub.seen
    assert cli("models", "pull", HUNYUAN, "--anyway", "-q", stdin=b"\n").code == 0, "accepted before, size by Enter"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pocket"], "comes with homereel"),
        (["turbowan2.1"], "TurboDiffusion/TurboWan2.1-T2V-1.3B-480P, then `homereel models import FILE`"),
        (["wan2.1-t2v-1.4b"], "wan2.1-t2v-1.3b"),
    ],
)
def test_what_cannot_be_pulled_says_why(cli: Cli, hub: LocalHub, words: list[str], message: str) -> None:
    refused = cli("models", "pull", *words)
    assert refused.code == 2
    assert message in refused.complaint
    assert not hub.seen


def test_offline_is_told(cli: Cli, hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMEREEL_OFFLINE", "1")
    refused = cli("models", "pull", MODEL, "--yes")
    assert refused.code == 1
    assert "HOMEREEL_OFFLINE is set" in refused.complaint
    assert not hub.seen


def test_scanned_files_are_not_fetched(cli: Cli, tiny_hub: LocalHub, tmp_path: Path) -> None:
    elsewhere = tmp_path / "ComfyUI"
    elsewhere.mkdir()
    (elsewhere / "vae.safetensors").write_bytes(tiny_hub.files[REPO][VAE])
    assert "1 weight file" in cli("models", "scan", elsewhere).out
    pulled = cli("models", "pull", MODEL, "--json")
    assert pulled.json["reused_bytes"] == len(tiny_hub.files[REPO][VAE])
    assert not tiny_hub.fetches(VAE)
    assert cli("models", "scan", elsewhere / "nothing").code == 2
