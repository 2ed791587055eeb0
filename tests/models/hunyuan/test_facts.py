"""What is said of a HunyuanVideo-1.5 before it is loaded: settings, remarks, times, memory, files that cannot be."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from homereel.core.errors import WeightsError
from homereel.core.request import Request
from homereel.models.hunyuan.facts import even_sigmas
from homereel.models.registry import find_card, model_facts
from tests.models.hunyuan.calls import family_of


def test_a_folder_tells_its_own_settings(words_dir: Path, picture_dir: Path) -> None:
    words, picture = model_facts(str(words_dir)), model_facts(str(picture_dir))
    assert (words.inputs, words.required) == (frozenset({"text"}), frozenset())
    assert (picture.inputs, picture.required) == (frozenset({"text", "image"}), frozenset({"image"}))
    assert (words.defaults.shift, words.defaults.guidance, words.defaults.sampler) == (5.0, 6.0, "euler")
    assert (picture.defaults.shift, picture.defaults.guidance) == (7.0, 1.0)
    assert "image_encoder" in picture.components
    assert "image_encoder" not in words.components
    named = set(picture.files())
    assert {"tokenizer/tokenizer.json", "feature_extractor/preprocessor_config.json"} < named
    assert all(any(file.startswith(part + "/") for file in named) for part in picture.components)


def test_facts_need_no_torch(picture_dir: Path) -> None:
    program = """
import sys
from homereel.core.machine import Machine
from homereel.core.request import Request
from homereel.models.registry import model_facts
from homereel.planning.plan import plan_clip
facts = model_facts(sys.argv[1])
machine = Machine(device="cpu", name="", num_threads=1, ram_bytes=10**9, vram_bytes=None, bf16_fast=False)
request = Request(prompt="a ball", model=facts.model, image="first.png")
plan = plan_clip(request, model=facts, machine=machine, fresh_seed=0)
assert facts.stages(plan)[0].sigmas[-1] == 0 and facts.files() and facts.vocabulary() == ()
assert "torch" not in sys.modules and "transformers" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program, str(picture_dir)], check=True, timeout=120)


def test_remarks(words_dir: Path, picture_dir: Path) -> None:
    facts = model_facts(str(words_dir))
    assert facts.remarks(Request(prompt='a red ball says "Hi"')) == ()
    told = facts.remarks(Request(prompt=f'a "{"x" * 300}" sign', negative_prompt="a" + " ball" * 1200))
    assert len(told) == 2
    assert "has in quotes is 54 letters too long" in told[0]
    assert "the negative prompt is 206 tokens too long" in told[1], "with the end of the chat"
    assert "needs no guidance" not in " ".join(told)
    assert "to need no guidance; 3 doubles" in model_facts(str(picture_dir)).remarks(Request(prompt="a", guidance=3))[0]


@pytest.mark.parametrize(("steps", "shift"), [(1, 5.0), (8, 7.0), (50, 9.0)])
def test_times_are_the_pipelines_own(steps: int, shift: float) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(steps, sigmas=np.linspace(1.0, 0.0, steps + 1)[:-1])
    assert list(even_sigmas(steps, shift=shift)) == scheduler.sigmas.tolist()


@pytest.mark.parametrize(
    ("ending", "steps", "guidance", "shift"),
    [
        *(("480p-t2v", 50, 6, 5), ("480p-i2v", 50, 6, 5), ("720p-t2v", 50, 6, 9), ("720p-i2v", 50, 6, 7)),
        *(("480p-t2v-distilled", 50, 1, 5), ("480p-i2v-distilled", 50, 1, 5), ("720p-i2v-distilled", 50, 1, 7)),
        ("480p-i2v-step-distilled", 12, 1, 7),
    ],
)
def test_the_catalogue_has_the_makers_settings(ending: str, steps: int, guidance: float, shift: float) -> None:
    card = find_card(f"hunyuanvideo-1.5-{ending}")
    clip = card.defaults.settled()
    assert (clip.steps, clip.guidance, clip.shift, clip.num_frames, clip.fps) == (steps, guidance, shift, 121, 24)
    assert card.supported
    assert card.licence.kind == "regional"


def test_memory_at_720p_is_that_of_a_tile(words_dir: Path) -> None:
    """The real figures: without tiles the widest layer alone would be 28 GB."""
    tiny = family_of(words_dir)
    config = replace(tiny.config, features=2048, feed_forward=8192, latent_channels=32, decoder_features=128)
    facts = replace(tiny, config=config)
    shapes = facts.shapes(width=1280, height=720, num_frames=121, dtype="bfloat16")
    assert shapes.latents == (1, 32, 31, 45, 80)
    assert shapes.num_tokens == 111_600
    assert 5.8e9 < shapes.denoise_bytes < 7e9, "tensors alive in a block of this size, counted: 5.8 GB"
    assert facts.widest_layer_bytes(shapes.latents, item_bytes=2) > 28e9
    assert 14.3e9 < shapes.decode_bytes < 20e9, "counted in a tile: 14.3 GB, and the frames themselves"


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("transformer/config.json", {"in_channels": 8}, "8 channels in; known are 9"),
        ("transformer/config.json", {"patch_size": 0}, "no counts"),
        ("transformer/config.json", {"attention_head_dim": None}, "no complete"),
        ("vae/config.json", {"block_out_channels": []}, "no complete"),
        ("scheduler/scheduler_config.json", {"shift": -1}, "names the shift -1"),
        ("guider/guider_config.json", {"guidance_scale": "six"}, "names the guidance 'six'"),
        ("guider/guider_config.json", {"guidance_rescale": 0.7}, "guider asks for guidance_rescale 0.7"),
    ],
)
def test_configurations_that_cannot_be_are_refused(
    words_dir: Path, tmp_path: Path, file: str, change: dict[str, Any], message: str
) -> None:
    folder = Path(shutil.copytree(words_dir, tmp_path / "model"))
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**config, **change}))
    with pytest.raises(WeightsError, match=message):
        model_facts(str(folder))


def test_a_guider_that_is_off_means_no_guidance(words_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(words_dir, tmp_path / "model"))
    (folder / "guider" / "guider_config.json").write_text(json.dumps({"enabled": False, "guidance_scale": 6.0}))
    assert model_facts(str(folder)).defaults.guidance == 1
