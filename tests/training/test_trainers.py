"""Each trainer learns something in a few steps at toy size, resumes exactly, and leaves loadable files."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from homereel.training import autoencoder, latents, text_encoder, transformer
from homereel.training.muon import Muon, orthogonalise
from homereel.training.plot import plot_log
from homereel.training.ranks import Rank, spawn
from homereel.training.run import Budget, MovingAverage, Run, learning_rate_factor, pack, unpack
from homereel.training.transformer import Phase, TransformerRecipe
from homereel.training.world import sample_scene
from tests.training.two_ranks import two_ranks

TINY_VAE = autoencoder.AutoencoderRecipe(base_dim=8, latent_channels=4, crops=(32,), num_frames=5, short_frames=5,
                                         statistics_clips=1)  # fmt: skip
TINY_TEXT = text_encoder.TextRecipe(dim=128, num_layers=1, batch_size=8)
TINY_DIT = TransformerRecipe(
    num_heads=1,
    head_dim=12,
    ffn_dim=16,
    num_layers=1,
    phases=(Phase(0.5, 1, 4), Phase(1.0, 2, 2)),
    wide_share=0.5,
)


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_muon_makes_updates_orthogonal() -> None:
    gradients = torch.randn(3, 16, 40, generator=torch.Generator().manual_seed(0))
    spectrum = torch.linalg.svdvals(orthogonalise(gradients))
    assert spectrum.min() > 0.5
    assert spectrum.max() < 1.4


def test_muon_descends_on_matrices_and_kernels() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 2))
    x, y = torch.randn(16, 3, 8, 8), torch.randn(16, 2)
    optimizer = Muon([p for p in net.parameters() if p.ndim > 1], lr=0.02, weight_decay=0.01)
    errors = []
    for _ in range(30):
        loss = (net(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    assert errors[-1] < 0.2 * errors[0]


def test_learning_rate_warms_up_and_comes_down() -> None:
    assert learning_rate_factor(0.0, 0, warm_up_steps=10) == pytest.approx(0.1)
    assert learning_rate_factor(0.5, 500, warm_up_steps=10) == pytest.approx(0.51)
    assert learning_rate_factor(1.0, 999, warm_up_steps=10) == pytest.approx(0.02)


def test_a_checkpoint_holds_everything_that_goes_on(tmp_path: Path) -> None:
    def parts() -> tuple[nn.Module, MovingAverage, list[torch.optim.Optimizer]]:
        torch.manual_seed(3)
        net = nn.Linear(4, 4)
        return net, MovingAverage(net, decay=0.9), [torch.optim.AdamW([net.bias]), Muon([net.weight])]

    def step(net: nn.Module, average: MovingAverage, optimizers: list[torch.optim.Optimizer], seed: int) -> None:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(seed))
        net(x).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        average.update(net, step=seed)

    straight = parts()
    for seed in range(4):
        step(*straight, seed)
    run = Run(tmp_path, Rank())
    first = parts()
    for seed in range(2):
        step(*first, seed)
    run.save(pack(first[0], first[1], *first[2]), {"step": 2})
    second = parts()
    saved = run.load()
    assert saved is not None
    unpack(saved[0], second[0], second[1], *second[2])
    for seed in range(2, 4):
        step(*second, seed)
    for name, p in straight[0].named_parameters():
        assert torch.equal(p, dict(second[0].named_parameters())[name])
        assert torch.equal(straight[1].values[name], second[1].values[name])


def test_text_autoencoder_cache_and_transformer_train_in_turn(tmp_path: Path) -> None:
    torch.manual_seed(0)
    text_encoder.train_text_encoder(Rank(), TINY_TEXT, Budget(num_steps=50), tmp_path / "text")
    assert losses(tmp_path / "text")[-1] < losses(tmp_path / "text")[0]
    autoencoder.train_autoencoder(Rank(), TINY_VAE, Budget(num_steps=2), tmp_path / "vae")
    latents.fill_cache(Rank(), tmp_path / "vae" / "vae", tmp_path / "cache", num_clips=100, wide_share=0.5,
                       num_frames=5)  # fmt: skip
    cache = latents.Cache(tmp_path / "cache")
    assert sorted(cache.latents) == ["square", "wide"]
    assert len(cache) == 2 * latents.SHARD_CLIPS
    recipe, folder = TINY_DIT, tmp_path / "dit"

    def train(num_steps: int) -> None:
        transformer.train_transformer(
            Rank(), recipe, Budget(num_steps=num_steps), folder, text_folder=tmp_path / "text",
            cache_folder=tmp_path / "cache",
        )  # fmt: skip

    from diffusers import WanTransformer3DModel

    train(4)
    model: Any = WanTransformer3DModel.from_pretrained(folder / "transformer")
    assert model.config.text_dim == TINY_TEXT.dim
    train(6)
    assert Run(folder, Rank()).load()[1]["step"] == 6  # type: ignore[index]
    assert plot_log(folder) is not None


def test_large_clips_take_as_much_work_as_others(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    scenes = json.dumps([asdict(sample_scene(random.Random(seed))) for seed in range(4)])
    for shape, (height, width) in latents.SHAPES.items():
        clips = torch.zeros(4, 4, 9, height // 8, width // 8, dtype=torch.float16)
        save_file({"latents": clips}, tmp_path / f"{shape}_00000.safetensors", {"scenes": scenes})
    cache, recipe = latents.Cache(tmp_path), TransformerRecipe(large_share=0.5, wide_share=0.2)
    made = [transformer._batch(recipe, Rank(), step, 0.9, cache).latents for step in range(200)]
    large = [clips for clips in made if clips.shape[-1] == 26]
    assert 80 < len(large) < 120
    assert 20 < sum(clips.shape[-1] == 18 for clips in made) < 60
    assert {clips.shape[2] for clips in large} == {1, 3, 5, 9}
    assert all(0.5 < clips.numel() / (8 * 4 * 9 * 12 * 12) < 1.5 for clips in large)
    assert {clips.shape[0] for clips in made if clips.shape[-1] != 26} == {8}


def test_cached_latents_are_normalised_and_reproducible(tmp_path: Path) -> None:
    vae = autoencoder.build_autoencoder(TINY_VAE).eval()
    vae.register_to_config(latents_mean=[1.0] * 4, latents_std=[2.0] * 4)
    paths = [latents.write_shard(vae, tmp_path / name, 0, shape="square", num_frames=1) for name in ("a", "b")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_given_first_frame_is_at_time_zero_and_not_graded() -> None:
    seen: dict[str, torch.Tensor] = {}

    def model(noisy: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor, **_: Any) -> tuple[torch.Tensor]:
        seen.update(noisy=noisy, timestep=timestep)
        answer = noise - clip
        answer[:, :, :1] = 1e6
        return (answer,)

    clip, noise = torch.randn(2, 4, 3, 4, 4), torch.randn(2, 4, 3, 4, 4)
    batch = transformer.Batch(clip, noise, torch.tensor([0.3, 0.9]), ["", ""], first_frame_given=True)
    loss = transformer.flow_loss(model, batch, encode=lambda captions: torch.zeros(2, 1, 1))
    assert loss.item() == 0
    assert torch.equal(seen["noisy"][:, :, :1], clip[:, :, :1])
    expected = torch.tensor([[0.0] * 4 + [300.0] * 8, [0.0] * 4 + [900.0] * 8])
    torch.testing.assert_close(seen["timestep"], expected)


def test_edges_weigh_more_than_the_wall() -> None:
    mask = torch.zeros(1, 2, 20, 20)
    mask[:, :, 5:15, 5:15] = 1
    weights = autoencoder.edge_weights(mask)
    assert weights.mean().item() == pytest.approx(1)
    assert (weights[0, 0, 0, 5, 10] / weights[0, 0, 0, 0, 0]).item() == pytest.approx(7)
    assert (weights[0, 0, 0, 10, 10] / weights[0, 0, 0, 0, 0]).item() == pytest.approx(3)


def test_two_ranks_stay_the_same(tmp_path: Path) -> None:
    spawn(two_ranks, tmp_path, count=2)
    first, second = ((tmp_path / f"{k}.txt").read_text() for k in range(2))
    assert first == second
    assert "1.5" in first
