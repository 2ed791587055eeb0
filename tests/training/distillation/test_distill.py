"""Distillation from a model's name to a folder that the engine runs, and what it refuses."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import homereel
from homereel.core.errors import InvalidRequest, WeightsError
from homereel.core.protocols import Family
from homereel.models.registry import model_facts, model_family
from homereel.passes import apply_passes, parse_passes
from homereel.passes.steps import Progress
from homereel.sampling import rcm_times
from homereel.training import distill, latents, sparse_tuning
from homereel.training.distill import STAGES
from homereel.training.distillation.flow import Noisy
from homereel.training.distillation.recipe import (
    DistillRecipe,
    LossName,
    Part,
    Phase,
    Size,
    Sparse,
    large_recipe,
    pocket_recipe,
    read_recipe,
)
from homereel.training.distillation.student import PROJECTIONS_FILE
from homereel.training.distillation.texts import Texts, encode_prompts, prompts_of
from homereel.training.distillation.trajectories import Trajectories
from homereel.training.learner import make_learner
from homereel.training.merge import merge_models, merge_weights
from homereel.training.ranks import Rank
from homereel.training.sparse_network import make_sparse
from homereel.training.sparse_tuning import (
    SparseRecipe,
    Tuning,
    sparse_loss,
    tune_sparse,
)
from tests.training.distillation.toy import normal, words

TINY = DistillRecipe(
    phases=(Phase(0.5, {"trajectory": Part(2)}), Phase(1.0, {"match": Part(1), "trajectory": Part(1)}, critic_first=1)),
    teacher_times=(1 - 1e-6, 0.5, 0.0),
    num_prompts=6,
    num_clips=8,
    cache_share=0.3,
    sizes=(Size(32, 32, 5),),
    minutes=0.02,
)


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distill, "default_rank_count", lambda: 1)
    monkeypatch.setattr(sparse_tuning, "default_rank_count", lambda: 1)


def test_from_a_model_to_its_student_which_carries_sparse_attention(tiny_model_dir: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    student = distill.distill(str(tiny_model_dir), tmp_path / "run", recipe=TINY, on_line=lines.append)
    assert lines == [f"{stage}: starts" for stage in STAGES]
    assert (tmp_path / "run" / "training" / "loss.png").is_file()
    defaults = model_facts(str(student)).defaults
    assert (defaults.steps, defaults.guidance, defaults.sampler) == (4, 1.0, "rcm")
    clip = homereel.generate("a red ball bounces", model=str(student), seed=1)
    assert (clip.plan.steps, clip.plan.guidance, clip.plan.sampler) == (4, 1.0, "rcm")
    weights = [load_file(next((folder / "transformer").glob("*.safetensors"))) for folder in (tiny_model_dir, student)]
    assert weights[0].keys() == weights[1].keys()
    assert not torch.equal(*(each["proj_out.weight"].float() for each in weights))

    lines.clear()
    distill.distill(str(tiny_model_dir), tmp_path / "run", recipe=TINY, on_line=lines.append)
    assert lines == [f"{stage}: done before" for stage in STAGES]

    tuning = SparseRecipe(ratio=0.5, batch_size=2, minutes=0.005, rate=1e-3)
    sparse = tune_sparse(str(tiny_model_dir), tmp_path / "sla", recipe=tuning, clips=tmp_path / "run",
                         on_line=lines.append)  # fmt: skip
    merged = merge_models(student, sparse, tiny_model_dir, tmp_path / "merged")
    assert model_facts(str(sparse)).defaults.passes == ("sparse_attention:0.5:first_steps=0",)
    for key in ("passes", "passes_from_tokens"):
        assert getattr(model_facts(str(merged)).defaults, key) == getattr(model_facts(str(sparse)).defaults, key)
    assert model_facts(str(merged)).defaults.sampler == "rcm"
    assert homereel.generate("a red ball", model=str(merged), seed=1, passes="sparse_attention:0.5").frames.any()
    with pytest.raises(InvalidRequest, match="exists"):
        merge_models(student, sparse, tiny_model_dir, merged)

    losses: dict[LossName, Part] = {"trajectory": Part(1), "straight": Part(1)}
    still = replace(TINY, minutes=0.01, phases=(Phase(1.0, losses, rate=0.0),), sampler="rcm-ode")
    again = distill.distill(
        str(tiny_model_dir), tmp_path / "again", recipe=still, start_from=str(merged), on_line=lines.append
    )
    begun, weights = (load_file(next((folder / "transformer").glob("diff*.safetensors"))) for folder in (merged, again))
    assert begun.keys() == weights.keys()
    assert all(torch.equal(begun[name], weights[name]) for name in begun)
    assert model_facts(str(again)).defaults.sampler == "rcm-ode"


def test_a_student_of_another_network_is_no_kin(tiny_model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"--from: .* is no kin of .* is not the same in both; name a student"):
        distill.distill(str(tiny_model_dir), tmp_path / "out", recipe=TINY, start_from="pocket")
    assert not (tmp_path / "out").exists()


def test_prompts_are_kept_as_the_family_encodes_them(tiny_model_dir: Path, tmp_path: Path) -> None:
    family: Family = model_family(str(tiny_model_dir))
    encoder = family.load("text_encoder", device="cpu", dtype="float32")
    prompts = prompts_of(family, file=None, num=5, seed=0)
    encode_prompts(family, encoder, prompts, tmp_path, negative="")
    texts = Texts(tmp_path)
    assert texts.prompts == prompts
    with torch.no_grad():
        whole = torch.cat([family.encode_text(encoder, text) for text in prompts])  # type: ignore[attr-defined]
        empty = family.encode_text(encoder, "")[0]  # type: ignore[attr-defined]
    torch.testing.assert_close(texts.states(range(5)), whole, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(texts.empty_LD, empty, rtol=1e-3, atol=1e-3)


def test_prompts_of_a_file(tiny_model_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a dog\n\n  two dogs \n")
    assert prompts_of(model_facts(str(tiny_model_dir)), file=file, num=9, seed=0) == ["a dog", "two dogs"]
    file.write_text("\n")
    with pytest.raises(InvalidRequest, match="no lines"):
        prompts_of(model_facts(str(tiny_model_dir)), file=file, num=9, seed=0)


def test_recipes_are_data(tmp_path: Path) -> None:
    base, file = pocket_recipe(), tmp_path / "recipe.json"
    phase = {"until": 1, "losses": {"match": {"clips": 3}}, "rate": 0.1}
    file.write_text(json.dumps({"phases": [phase], "times": [0.9, 0.5, 0], "exit_shares": [0.5, 0.5]}))
    read = read_recipe(file, base=base)
    assert read.phases == (Phase(1, {"match": Part(3)}, rate=0.1),)
    assert read.sizes == base.sizes
    for wrong, told in (
        ({"phase": []}, "'phase'"),
        ({"phases": [{**phase, "speed": 1}]}, "speed"),
        ({"phases": [{**phase, "until": 0.5}]}, "until"),
        ({"times": [0.5, 0.9, 0]}, "fall"),
        ({"times": [0.9, 0]}, "exit_shares"),
    ):
        file.write_text(json.dumps(wrong))
        with pytest.raises(InvalidRequest, match=told):
            read_recipe(file, base=base)


def test_students_are_trained_for_the_times_at_which_they_are_asked() -> None:
    for recipe in (pocket_recipe(), large_recipe()):
        assert recipe.times == rcm_times(4)
        shown = {round(time, 4) for time in recipe.teacher_times}
        assert {round(time, 4) for time in recipe.times[1:]} <= shown


def test_phases_follow_each_other() -> None:
    recipe = replace(TINY, phases=(Phase(0.25, {}), Phase(1.0, {})))
    assert [recipe.phase_at(share) for share in (0, 0.125, 0.25, 0.625, 1.0)] == [
        (0, 0), (0, 0.5), (1, 0), (1, 0.5), (1, 1),
    ]  # fmt: skip


def test_what_cannot_be_distilled_is_refused_before_the_work(tmp_path: Path) -> None:
    from tests.tiny_models import save_tiny_kind

    for kind in ("i2v", "t2v-a14b"):
        folder = save_tiny_kind(tmp_path / kind, kind)
        with pytest.raises(InvalidRequest, match="cannot be distilled"):
            distill.distill(str(folder), tmp_path / "out", recipe=TINY)
    assert not (tmp_path / "out").exists()


def test_a_network_of_all_blocks_is_the_dense_one_and_projections_learn(tiny_model_dir: Path) -> None:
    """Tiny clips have one block of keys, so that nothing is left out; only the projection's zero makes it dense."""
    family = model_family(str(tiny_model_dir))
    dense = family.load("transformer", device="cpu", dtype="float32")
    sparse = family.load("transformer", device="cpu", dtype="float32").requires_grad_(True)
    make_sparse(sparse, family, ratio=1.0, first_layers=1)
    given = Noisy(normal(2, 4, 2, 4, 4), normal(2, 4, 2, 4, 4, seed=1), torch.tensor([0.3, 0.8]), words(2))
    loss = sparse_loss(sparse, given, dense=dense)
    assert loss.item() < 1e-9
    shift = sparse.blocks[1].attn1.processor.proj_l
    with torch.no_grad():
        shift.bias.add_(0.5)
    loss = sparse_loss(sparse, given, dense=dense)
    loss.backward()
    assert loss.item() > 1e-6
    assert shift.weight.grad.any()
    assert sparse.blocks[0].attn1.processor.proj_l.weight.grad is None


def test_tuned_projections_are_what_the_pass_reads(tiny_model_dir: Path, tmp_path: Path) -> None:
    from homereel.training.sparse_tuning import save_sparse

    family = model_family(str(tiny_model_dir))
    network = family.load("transformer", device="cpu", dtype="float32")
    make_sparse(network, family, ratio=0.5, first_layers=0)
    with torch.no_grad():
        for index, block in enumerate(network.blocks):
            block.attn1.processor.proj_l.weight.add_(normal(12, 12, seed=index))
    weights = dict(network.named_parameters())
    save_sparse(weights, network, model=str(tiny_model_dir), target=tmp_path / "out", sparse=Sparse(ratio=0.5))
    tuned = model_family(str(tmp_path / "out"))
    given = normal(1, 4, 2, 4, 4), torch.tensor([500.0]), normal(1, 5, 16, seed=2)
    spec = "sparse_attention:0.5:first_layers=0:first_steps=0"
    for passes in parse_passes(spec), parse_passes(f"{spec}:weights={tmp_path / 'out' / PROJECTIONS_FILE}"):
        loaded = tuned.load("transformer", device="cpu", dtype="float32")
        apply_passes(loaded, tuned, passes)
        with torch.no_grad():  # weights in files are bfloat16
            torch.testing.assert_close(loaded(*given)[0], network(*given)[0], rtol=0.05, atol=0.05)


def test_a_tuned_model_is_tuned_on(tiny_model_dir: Path, tmp_path: Path) -> None:
    from homereel.training.sparse_tuning import save_sparse

    before = None
    model = str(tiny_model_dir)
    for turn in range(2):
        family = model_family(model)
        network = family.load("transformer", device="cpu", dtype="float32")
        make_sparse(network, family, ratio=0.5, first_layers=0)
        projection = network.blocks[1].attn1.processor.proj_l
        if before is not None:
            assert torch.equal(projection.weight, before)
        with torch.no_grad():
            projection.weight.add_(normal(12, 12, seed=turn))
        before = projection.weight.detach().clone()
        model = str(tmp_path / f"turn {turn}")
        weights = dict(network.named_parameters())
        save_sparse(weights, network, model=str(tiny_model_dir), target=Path(model), sparse=Sparse(ratio=0.5))


def test_drawn_clips_serve_for_tuning(tiny_model_dir: Path, tmp_path: Path) -> None:
    """Captions follow the clips, and another size than the cached one is refused before the work."""
    from homereel.training.drawn_clips import DrawnClips

    latents.write_shard(
        model_family(str(tiny_model_dir)).load("vae", device="cpu", dtype="float32"),
        tmp_path / "world" / "cache",
        0,
        shape="square",
        num_frames=5,
    )
    recipe = SparseRecipe(ratio=0.5, batch_size=1, minutes=0.005, size=Size(96, 96, 5), dense_share=0.3, order="wth")
    model, world = str(tiny_model_dir), tmp_path / "world"
    made = tune_sparse(model, tmp_path / "sla", recipe=recipe, clips=world, on_line=lambda _: None)
    assert (made / PROJECTIONS_FILE).is_file()
    tuned = model_facts(str(made)).defaults
    assert tuned.passes == ("sparse_attention:0.5:first_steps=0:order=wth",)
    assert tuned.passes_from_tokens == 2 * 12 * 12 // 4  # those of the size that was tuned
    clips = DrawnClips(tmp_path / "world" / "cache", tmp_path / "sla")
    cached = load_file(tmp_path / "world" / "cache" / "square_00000.safetensors")["latents"]
    shape = clips.shape(random.Random(0))
    drawn = clips.draw(random.Random(1), 3, shape=shape, start_share=1.0, lowest_time=1.0)
    assert shape == tuple(cached.shape[1:])
    for clip, caption in zip(drawn.clip, drawn.text_BLD, strict=True):
        (row,) = [row for row in range(64) if torch.equal(cached[row].float(), clip)]
        assert torch.equal(caption, clips.texts.states([row])[0])
    with pytest.raises(InvalidRequest, match="no clips of this --size; its latents are 4x2x"):
        tune_sparse(model, tmp_path / "b", recipe=replace(recipe, size=Size(64, 96, 5)), clips=world)


def test_clips_of_a_size_are_sparse_and_whole_attention_is_kept_on_all(tiny_model_dir: Path, tmp_path: Path) -> None:
    model, made = str(tiny_model_dir), tmp_path / "run"
    two = replace(TINY, sizes=(Size(32, 32, 5), Size(64, 32, 5)), num_clips=32, teacher_times=(1 - 1e-6, 0.0))
    distill.distill(model, made, recipe=two, stages=("prompts", "trajectories"), on_line=lambda _: None)
    clips = Trajectories(made / "trajectories", Texts(made))
    small, large = clips.shapes()
    network: Any = torch.nn.Linear(1, 1)
    tuning = Tuning(make_learner(network, optimizer="adamw"), network, Progress(first_share=0.0), clips, large)
    seen = set()
    for step in range(60):
        given = tuning.draw(Rank(), SparseRecipe(batch_size=2, dense_share=0.5), step=step)
        seen.add((tuning.progress.early, tuple(given.clip.shape)))
    assert seen == {(False, (2, *large)), (True, (2, *large)), (True, (4, *small))}

    recipe = SparseRecipe(ratio=0.5, batch_size=1, minutes=0.005, size=Size(96, 96, 5))
    with pytest.raises(InvalidRequest, match="no clips of this --size; its latents are 4x2x"):
        tune_sparse(model, tmp_path / "sla", recipe=recipe, clips=made, on_line=lambda _: None)
    assert not (tmp_path / "sla").exists()


def test_a_teacher_makes_clips_of_its_own_size_to_keep_whole_attention_on(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Asked(Exception):
        """The sizes of the clips to make; nothing is made here."""

    def ask(*_: Any, recipe: DistillRecipe, **__: Any) -> None:
        raise Asked(recipe.sizes)

    monkeypatch.setattr(sparse_tuning, "distill", ask)
    own = model_facts(str(tiny_model_dir)).defaults
    for recipe, sizes in (
        (SparseRecipe(), ()),
        (SparseRecipe(size=Size(96, 96, 5)), (Size(96, 96, 5),)),
        (
            SparseRecipe(size=Size(96, 96, 5), dense_share=0.3),
            (Size(96, 96, 5), Size(own.width, own.height, own.num_frames)),
        ),
    ):
        with pytest.raises(Asked) as asked:
            tune_sparse(str(tiny_model_dir), tmp_path / "sla", recipe=recipe, on_line=lambda _: None)
        assert asked.value.args == (sizes,)


def test_while_attention_is_whole_nothing_is_left_out(tiny_model_dir: Path) -> None:
    family = model_family(str(tiny_model_dir))
    dense = family.load("transformer", device="cpu", dtype="float32")
    progress = Progress(first_share=0.0)
    network = make_sparse(copy.deepcopy(dense), family, ratio=0.5, first_layers=0, progress=progress)
    with torch.no_grad():
        for block in network.blocks:
            block.attn1.processor.proj_l.bias.add_(0.5)
    given = Noisy(normal(2, 4, 2, 4, 4), normal(2, 4, 2, 4, 4, seed=1), torch.tensor([0.3, 0.8]), words(2))
    assert sparse_loss(network, given, dense=dense).item() > 1e-6
    progress.early = True
    assert sparse_loss(network, given, dense=dense).item() < 1e-9


def test_merging_adds_what_the_tuning_changed() -> None:
    base, student = {"a": torch.ones(2), "b": torch.zeros(1)}, {"a": torch.full((2,), 5.0), "b": torch.ones(1)}
    sparse = {"a": torch.full((2,), 3.0), "b": torch.zeros(1), "proj_l": torch.ones(3)}
    merged = merge_weights(student, sparse, base, weight=0.5)
    assert merged["a"].tolist() == [6, 6]
    assert merged["b"].tolist() == [1]
    assert merged["proj_l"] is sparse["proj_l"]
    with pytest.raises(WeightsError, match="shapes"):
        merge_weights({**student, "a": torch.ones(3)}, sparse, base)
    with pytest.raises(WeightsError, match="lacks a"):
        merge_weights({"b": torch.ones(1)}, sparse, base)
    with pytest.raises(WeightsError, match="lacks a"):
        merge_weights(student, {"b": torch.zeros(1)}, base)
