"""The trainer at toy size: losses fall, a stopped run goes on to the same weights, shared-out weights learn alike."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._C._distributed_c10d import HashStore

from homereel.training.distillation import trajectories
from homereel.training.distillation.flow import Conditions, Noisy, Teacher
from homereel.training.distillation.losses import critic_loss, match_loss, rollout
from homereel.training.distillation.recipe import DistillRecipe, Part, Phase
from homereel.training.distillation.texts import FILE, Texts
from homereel.training.distillation.trainer import train_student
from homereel.training.distillation.trajectories import Trajectories, fill_trajectories, way
from homereel.training.ranks import Rank
from homereel.training.run import Budget, Run
from tests.training.distillation.toy import SHAPE, Gaussian, normal, tiny_wan, words

EVERYTHING = DistillRecipe(
    phases=(
        Phase(0.34, {"trajectory": Part(2), "guidance": Part(1)}, rate=1e-3),
        Phase(0.67, {"consistency": Part(2), "continuous": Part(1, 0.01)}, rate=1e-3),
        Phase(1.0, {"match": Part(2), "deceive": Part(0, 0.1), "trajectory": Part(1, 0.5)}, rate=1e-3,
              critic_first=1, critic_steps=2),
    ),
    teacher_times=(1 - 1e-6, 0.8, 0.5, 0.2, 0.0),
    num_clips=16,
    first_frame_share=0.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts of random states, and ways of a random teacher."""
    folder = tmp_path_factory.mktemp("cache")
    write_texts(folder)
    fill(folder, EVERYTHING)
    return folder


def write_texts(folder: Path, *, num: int = 6) -> None:
    from safetensors.torch import save_file

    tensors = {"states": normal(3 * (num + 1), 16, seed=3).half(), "lengths": torch.full((num + 1,), 3)}
    save_file(tensors, folder / FILE, {"prompts": json.dumps(["a"] * num), "max_tokens": "5"})


def fill(folder: Path, recipe: DistillRecipe) -> None:
    fill_trajectories(
        Rank(), recipe, Budget(seconds=1e9), folder / "trajectories", teacher=teacher(folder), texts=Texts(folder),
        shapes=[SHAPE], on_line=lambda _: None,
    )  # fmt: skip


def teacher(folder: Path) -> Teacher:
    return Teacher(tiny_wan().requires_grad_(False).eval(), Texts(folder).empty_LD, 3.0)


def train(
    folder: Path, target: Path, recipe: DistillRecipe, num_steps: int, *, shared: bool = False, **options: Any
) -> dict[str, Tensor]:
    saved: list[dict[str, Tensor]] = []
    train_student(
        Rank(), recipe, Budget(num_steps=num_steps), Run(target, Rank(), **{"on_line": lambda _: None, **options}),
        teacher=teacher(folder), blocks=lambda network: network.blocks,
        cache=Trajectories(folder / "trajectories", Texts(folder)), takes_first_frame=True, save=saved.append,
        shared=shared,
    )  # fmt: skip
    return saved[-1]


def rows(target: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (target / "log.jsonl").read_text().splitlines()]


def test_cached_ways_are_the_teachers_sampling(folder: Path) -> None:
    """Half precision keeps three digits. The start is the noise itself, the end is what UniPC leaves."""
    cache, texts = Trajectories(folder / "trajectories", Texts(folder)), Texts(folder)
    assert len(cache) == 16
    from safetensors.torch import load_file

    shard = load_file(folder / "trajectories" / "clips_00001.safetensors")
    conditions = Conditions(texts.states(shard["prompts"].tolist()))
    again = way(teacher(folder), shard["states"][:, 0].float(), conditions, times=EVERYTHING.teacher_times)
    torch.testing.assert_close(shard["states"].float(), again, rtol=5e-3, atol=5e-3)
    import random

    drawn = cache.draw(random.Random(0), 64, shape=SHAPE, start_share=0.5, lowest_time=0.3)
    assert {round(time, 3) for time in drawn.time_B.tolist()} == {1.0, 0.8, 0.5}


def test_a_cache_goes_on_where_it_stopped(folder: Path, tmp_path: Path) -> None:
    write_texts(tmp_path)
    fill(tmp_path, replace(EVERYTHING, num_clips=8))
    first = tmp_path / "trajectories" / "clips_00000.safetensors"
    before = first.stat().st_mtime_ns
    fill(tmp_path, EVERYTHING)
    assert first.stat().st_mtime_ns == before
    names = [path.name for path in sorted((tmp_path / "trajectories").glob("*.safetensors"))]
    for name in names:
        again = folder / "trajectories" / name
        assert (tmp_path / "trajectories" / name).read_bytes() == again.read_bytes()
    assert len(names) == 16 // trajectories.SHARD_CLIPS


def test_a_student_learns_the_ways(folder: Path, tmp_path: Path) -> None:
    recipe = replace(EVERYTHING, phases=(Phase(1.0, {"trajectory": Part(8)}, rate=1e-2),))
    train(folder, tmp_path, recipe, 31)
    found = [row["trajectory"] for row in rows(tmp_path)]
    assert found[-1] < 0.8 * found[0]


def test_a_stopped_run_goes_on_to_the_same_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through every phase and every loss."""
    monkeypatch.setattr("homereel.training.distillation.trainer.LOG_EVERY", 1)
    straight = train(folder, tmp_path / "straight", EVERYTHING, 7)
    for stop in (1, 5):

        def on_line(line: str, stop: int = stop) -> None:
            if f"step {stop + 1} " in line:
                raise KeyboardInterrupt

        monkeypatch.setattr(Run, "due", lambda run, stop=stop: True)
        with pytest.raises(KeyboardInterrupt):
            train(folder, tmp_path / "stopped", EVERYTHING, 7, on_line=on_line)
    monkeypatch.undo()
    resumed = train(folder, tmp_path / "stopped", EVERYTHING, 7)
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    assert {"match", "critic", "deceive", "judge"} <= rows(tmp_path / "straight")[-1].keys()


@pytest.fixture
def alone() -> Iterator[None]:
    """A group of one process, in memory."""
    torch.distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("alone")
def test_shared_out_weights_learn_the_same(folder: Path, tmp_path: Path) -> None:
    """Rounding differs in the order of sums. The checkpoint is whole, so it goes on without sharing."""
    recipe = replace(
        EVERYTHING,
        phases=(
            Phase(0.5, {"trajectory": Part(2)}, rate=1e-3),
            Phase(1.0, {"match": Part(2), "consistency": Part(1)}, rate=1e-3, critic_first=1),
        ),
        optimizer="adamw",
    )
    plain = train(folder, tmp_path / "plain", recipe, 4)
    shared = train(folder, tmp_path / "shared", recipe, 4, shared=True)
    for name, tensor in plain.items():
        assert type(shared[name]) is Tensor
        torch.testing.assert_close(shared[name], tensor, rtol=1e-3, atol=1e-4)
    train(folder, tmp_path / "shared", recipe, 5)


def test_matching_brings_a_student_to_its_teachers_clips() -> None:
    """One step from noise: a student of mean 0 and small deviation comes to the teacher's mean and deviation."""
    torch.manual_seed(0)
    wise = Teacher(Gaussian(1.0, 0.6).requires_grad_(False), torch.zeros(5, 16), 1.0)
    scale, shift = torch.tensor(0.2, requires_grad=True), torch.tensor(0.0, requires_grad=True)

    def student(x: Tensor, timestep: Tensor, text: Tensor, **_: Any) -> tuple[Tensor]:
        return ((x - (scale * x + shift)) / 0.98765,)

    critic = copy.deepcopy(wise.network).requires_grad_(True)
    mine, its = torch.optim.Adam([scale, shift], lr=0.02), torch.optim.Adam(critic.parameters(), lr=0.04)
    for _ in range(250):
        clip = rollout(student, [torch.randn(4, *SHAPE)], [0.98765], words(4))
        time = torch.rand(4) * 0.8 + 0.1
        made = Noisy(clip, torch.randn_like(clip), time, words(4))
        match_loss(made, teacher=wise, critic=critic).backward()
        mine.step()
        mine.zero_grad()
        for _ in range(2):
            its.zero_grad()
            time = torch.rand(4) * 0.8 + 0.1
            critic_loss(critic, Noisy(clip.detach(), torch.randn_like(clip), time, words(4))).backward()
            its.step()
    assert shift.item() == pytest.approx(1.0, abs=0.15)
    assert abs(scale.item()) == pytest.approx(0.6, abs=0.15)
