"""A student that learns with sparse attention in long clips: what it writes, and that short clips are left alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import homereel
from homereel.core.errors import InvalidRequest
from homereel.models.registry import model_facts, model_family
from homereel.training import distill
from homereel.training.distillation.recipe import DistillRecipe, Part, Phase, Size, Sparse, pocket_recipe, read_recipe
from homereel.training.distillation.student import PROJECTIONS_FILE
from homereel.training.sparse_network import make_sparse
from tests.training.distillation.toy import normal

RECIPE = DistillRecipe(
    phases=(Phase(1.0, {"straight": Part(2), "trajectory": Part(1)}, rate=1e-2),),
    sampler="rcm-ode",
    sparse=Sparse(ratio=0.1, first_layers=1, from_tokens=64, order="wth"),
    teacher_times=(1 - 1e-6, 0.5, 0.0),
    num_prompts=4,
    num_clips=16,
    cache_share=0.3,
    sizes=(Size(32, 32, 5, 0.5), Size(192, 192, 5, 0.5)),
    minutes=0.05,
)


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distill, "default_rank_count", lambda: 1)


def test_its_long_clips_are_made_with_what_it_learnt(tiny_model_dir: Path, tmp_path: Path) -> None:
    student = distill.distill(str(tiny_model_dir), tmp_path / "run", recipe=RECIPE, on_line=lambda _: None)
    projections = load_file(student / PROJECTIONS_FILE)
    assert projections["blocks.1.attn1.processor.proj_l.weight"].any()
    assert not projections["blocks.0.attn1.processor.proj_l.weight"].any()  # of a layer that stays dense
    facts = model_facts(str(student))
    assert facts.defaults.passes == ("sparse_attention:0.1:first_steps=0:order=wth",)
    assert facts.defaults.passes_from_tokens == 64
    long = homereel.generate("a red ball", model=str(student), width=192, height=192, num_frames=5, seed=1)
    assert any("sparse_attention" in each for each in long.plan.passes)
    assert not homereel.generate("a red ball", model=str(student), seed=1).plan.passes

    # It learns on from there, and what it has learnt is not lost.
    still = replace(RECIPE, minutes=0.01, phases=(Phase(1.0, RECIPE.phases[0].losses, rate=0.0),))
    again = distill.distill(
        str(tiny_model_dir), tmp_path / "again", recipe=still, start_from=str(student), on_line=lambda _: None
    )
    kept = load_file(again / PROJECTIONS_FILE)
    assert all(torch.equal(kept[name], projections[name]) for name in projections)


def test_short_clips_are_attended_to_wholly(tiny_model_dir: Path) -> None:
    family = model_family(str(tiny_model_dir))
    dense, sparse = (family.load("transformer", device="cpu", dtype="float32") for _ in range(2))
    make_sparse(sparse, family, ratio=0.1, first_layers=0, from_tokens=200)
    words, time = normal(1, 5, 16, seed=2), torch.tensor([500.0])
    with torch.no_grad():
        short, long = normal(1, 4, 2, 18, 18), normal(1, 4, 2, 20, 20)  # 162 and 200 tokens
        assert torch.equal(sparse(short, time, words)[0], dense(short, time, words)[0])
        assert not torch.allclose(sparse(long, time, words)[0], dense(long, time, words)[0], rtol=1e-3, atol=1e-3)


def test_a_recipe_says_so(tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps({"sparse": {"ratio": 0.2, "from_tokens": 1024}}))
    assert read_recipe(file, base=pocket_recipe()).sparse == Sparse(0.2, 1, 1024)
    for wrong in ({"ratio": 0}, {"ratio": 1.5}, {"order": "th"}):
        file.write_text(json.dumps({"sparse": wrong}))
        with pytest.raises(InvalidRequest, match=r"ratio is more than 0.* order one of thw"):
            read_recipe(file, base=pocket_recipe())
