"""`homereel plan`: what a film will take, for this machine and for another, without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from homereel.weights.word_store import WordStore
from tests.cli.conftest import Cli
from tests.models.test_students import with_student
from tests.tiny_loras import save_lora

HUNYUAN = ("--model", "hunyuanvideo-1.5", "--size", "480p", "--seconds", "5")
SMALL_CARD = ("--max-vram", "8GB", "--max-ram", "32GB")


def test_a_plan_tells_all_a_program_wants_to_know(cli: Cli) -> None:
    done = cli("plan", "a red ball", "--json")
    assert done.code == 0, done.err
    told = done.json
    assert told["settings"]["model"] == "pocket"
    assert told["peak_vram_bytes"] == 0
    assert told["peak_ram_bytes"] == max(stage["ram_bytes"] for stage in told["stages"])
    assert told["band"][0] < told["seconds"] < told["band"][1]
    assert [stage["name"] for stage in told["stages"]] == ["load", "text", "denoise", "decode", "write"]
    assert told["kwh"] > 0
    assert not told["needs_download"]


def test_a_machine_other_than_this_one_is_planned_for(cli: Cli) -> None:
    told = cli("plan", "a harbour", *HUNYUAN, *SMALL_CARD, "--json").json
    assert told["settings"]["num_frames"] == 121
    assert told["peak_vram_bytes"] <= 8e9
    assert told["peak_ram_bytes"] <= 32e9
    assert told["settings"]["residency"]["resident_blocks"] < 54
    assert told["download_bytes"] > 3e10
    assert {each["kind"] for each in told["alternatives"]} >= {"faster", "lighter", "other model"}


def test_a_person_reads_a_table_and_sentences(cli: Cli) -> None:
    shown = cli("plan", "a harbour", *HUNYUAN, *SMALL_CARD, "--price", "1").out
    for words in ("denoising", "blocks stay on the GPU", "homereel models pull", "kWh", "nine of ten runs"):
        assert words in shown


def test_distilled_lets_a_student_stand_in_for_its_teacher(cli: Cli, tiny_model_dir: Path, tmp_path: Path) -> None:
    teacher = with_student(tiny_model_dir, tmp_path / "teacher")
    distilled = ("plan", "a red ball", "--model", str(teacher), "--quality", "distilled", "--json")
    settings = cli(*distilled).json["settings"]
    assert (settings["model"], settings["steps"], settings["guidance"]) == (str(teacher / "fast"), 4, 1)
    for more in (("--steps", "30"), ("--guidance", "3")):
        assert cli(*distilled, *more).json["settings"]["model"] == str(teacher)
    assert cli(*distilled[:4], "--json").json["settings"]["model"] == str(teacher)


def test_what_fits_nowhere_is_refused_at_once(cli: Cli) -> None:
    done = cli("plan", "a", "--model", "wan2.1-t2v-14b", "--size", "720p", *SMALL_CARD)
    assert done.code == 2
    assert "what would fit: " in done.complaint


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--max-vram", "much"), "--max-vram: 'much' is no size of a memory"),
        (("--max-ram", "0"), "--max-ram: '0' is no size"),
        (("--quality", "best"), "none of exact, approximate, distilled"),
        (("--prefer", "both"), "neither speed nor quality"),
    ],
)
def test_words_that_mean_nothing_are_refused(cli: Cli, words: tuple[str, ...], complaint: str) -> None:
    done = cli("plan", "a ball", *words)
    assert done.code == 2
    assert complaint in done.complaint


def test_a_gpu_that_is_not_there_cannot_be_limited(cli: Cli) -> None:
    done = cli("generate", "a ball", "--max-vram", "8GB")
    assert done.code == 2
    assert "no GPU here that could be limited" in done.complaint


def test_doctor_names_a_command_for_what_it_finds_wrong(cli: Cli) -> None:
    found = cli("doctor", "--json").json
    assert {each["what"] for each in found["findings"]} >= {"torch", "processor", "memory", "speed", "models"}
    speed = next(each for each in found["findings"] if each["what"] == "speed")
    assert (speed["ok"], speed["mend"]) == (False, "homereel doctor --calibrate")
    assert all(each["mend"] for each in found["findings"] if not each["ok"])


def test_a_lora_for_few_steps_brings_them_into_the_plan(cli: Cli, tmp_path: Path, tiny_model_dir: Path) -> None:
    name = "blocks.0.self_attn.q"
    tensors = {f"diffusion_model.{name}.lora_down.weight": torch.zeros(4, 24)}
    tensors[f"diffusion_model.{name}.lora_up.weight"] = torch.zeros(24, 4)
    lora = save_lora(tmp_path / "Wan21_T2V_lightx2v.safetensors", tensors)
    told = cli("plan", "a ball", "--model", str(tiny_model_dir), "--lora", str(lora), "--json").json["settings"]
    assert (told["steps"], told["guidance"], told["sampler"]) == (4, 1.0, "euler")


def test_words_that_were_read_before_are_told(
    cli: Cli, tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = WordStore(tmp_path / "words", 10**6, worth_bytes=0)
    monkeypatch.setattr(WordStore, "open", lambda: store)
    wish = ("a red ball", "--model", str(tiny_model_dir), "--steps", "1")
    before = cli("plan", *wish, "--json").json
    assert before["settings"]["residency"] is None
    assert cli("generate", *wish, "--output", str(tmp_path / "clip.mp4")).code == 0
    after = cli("plan", *wish, "--json").json
    assert after["settings"]["residency"]["text_encoder"] == "cached"
    assert "the words were read before" in after["words"]
    assert next(stage for stage in after["stages"] if stage["name"] == "text")["seconds"] == 0
    assert cli("plan", "another", *wish[1:], "--json").json["settings"]["residency"] is None


def test_a_plan_needs_no_torch() -> None:
    code = (
        "import sys; from homereel.cli.app import run; "
        "assert run(['plan', 'a ball', '--json']) == 0; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
