"""The whole recipe at toy size: from nothing to a model that the engine runs, resumed and trained on."""

from __future__ import annotations

from pathlib import Path

import pytest

import homereel
from homereel.models.registry import model_facts
from homereel.training import latents, pocket
from homereel.training.pocket import PocketRecipe, train_pocket
from tests.training.test_trainers import TINY_DIT, TINY_TEXT, TINY_VAE


@pytest.fixture(autouse=True)
def one_small_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pocket, "default_rank_count", lambda: 1)
    monkeypatch.setattr(latents, "SHARD_CLIPS", 4)


def test_from_nothing_to_a_model_that_makes_clips(tmp_path: Path) -> None:
    recipe = PocketRecipe(autoencoder=TINY_VAE, text=TINY_TEXT, transformer=TINY_DIT, num_clips=4, minutes=0.01)
    lines: list[str] = []
    model = train_pocket(tmp_path / "run", recipe=recipe, on_line=lines.append)
    assert [line.split(":")[0] for line in lines] == list(pocket.STAGES)
    assert not any(str(tmp_path) in file.read_text() for file in model.rglob("*.json"))
    facts = model_facts(str(model))
    assert facts.inputs == {"text", "image", "video", "strength", "refine", "extend"}
    assert (facts.defaults.width, facts.defaults.num_frames) == (96, 33)
    clip = homereel.generate("a red ball bounces", model=str(model), seed=1, width=32, height=32, num_frames=5, steps=2)
    assert clip.frames.shape == (5, 32, 32, 3)

    lines.clear()
    train_pocket(tmp_path / "run", recipe=recipe, on_line=lines.append)
    assert all(line.endswith("done before") for line in lines)

    lines.clear()
    again = train_pocket(tmp_path / "on", recipe=recipe, start_from=model, on_line=lines.append)
    assert [line.split(":")[0] for line in lines if "starts" in line] == ["cache", "transformer", "export"]
    kept, changed = "vae/diffusion_pytorch_model.safetensors", "transformer/diffusion_pytorch_model.safetensors"
    assert (again / kept).read_bytes() == (model / kept).read_bytes()
    assert (again / changed).read_bytes() != (model / changed).read_bytes()
