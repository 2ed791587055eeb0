"""Tunes the decoder on, once the encoder is frozen and the transformer trains: its latents stay what they are.

Cached latents are decoded and held against the clips that they came from, drawn again.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from homereel.models.wan.vae import decode_latents, latent_statistics
from homereel.training.autoencoder import restoration_loss, to_video
from homereel.training.latents import SHAPES, Cache
from homereel.training.muon import Muon
from homereel.training.ranks import Rank
from homereel.training.run import Budget, MovingAverage, Run, learning_rate_factor, pack, unpack
from homereel.training.world import draw
from homereel.training.world.draw import Window

SCALE = 8
"""Pixels a latent cell is wide."""


@dataclass(frozen=True)
class DecoderRecipe:
    """How the decoder is tuned."""

    batch_size: int = 2
    cells: int = 6
    """Side of the square of latent cells that is decoded."""
    learning_rate: float = 4e-4
    sharpness: float = 0.3
    steadiness: float = 0.5
    seed: int = 0


def tune_decoder(
    rank: Rank, recipe: DecoderRecipe, budget: Budget, folder: Path, *, vae_folder: Path, cache_folder: Path
) -> None:
    """Train until the budget is spent, resuming; leaves `folder/vae` with the encoder of `vae_folder` unchanged."""
    from diffusers import AutoencoderKLWan

    vae: Any = AutoencoderKLWan.from_pretrained(vae_folder, torch_dtype=torch.float32).to(rank.device)
    vae.encoder.requires_grad_(requires_grad=False)
    vae.quant_conv.requires_grad_(requires_grad=False)
    tuned = torch.nn.ModuleList([vae.decoder, vae.post_quant_conv])
    kernels = [p for p in tuned.parameters() if p.ndim >= 4 and p.shape[0] > 12]
    chosen = {id(p) for p in kernels}
    rest = [p for p in tuned.parameters() if id(p) not in chosen]
    optimizers = [torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0.0), Muon(kernels)]
    average, run, cache = MovingAverage(tuned, decay=0.99), Run(folder, rank), Cache(cache_folder)
    if (saved := run.load()) is not None:
        unpack(saved[0], tuned, average, *optimizers)
        budget.resume(step=saved[1]["step"], spent_seconds=saved[1]["spent_seconds"])
    smooth: dict[str, float] = {}
    while not rank.any(budget.share() >= 1):
        rate = recipe.learning_rate * learning_rate_factor(budget.share(), budget.step, warm_up_steps=20)
        for optimizer, factor in zip(optimizers, (1.0, 2.0), strict=True):
            optimizer.param_groups[0]["lr"] = rate * factor
        latents, video, mask = _batch(recipe, rank, budget.step, cache, vae)
        with rank.autocast():
            restored = decode_latents(vae, latents)
        loss, figures = restoration_loss(
            restored, video, mask, sharpness=recipe.sharpness, steadiness=recipe.steadiness
        )
        loss.backward()
        norm = rank.average_gradients(tuned.parameters())
        torch.nn.utils.clip_grads_with_norm_(tuned.parameters(), 1.0, torch.tensor(norm))
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        average.update(tuned, step=budget.step)
        budget.step += 1
        smooth |= {name: value + (smooth.get(name, value) - value) * 0.97 for name, value in figures.items()}
        if budget.step % 50 == 0:
            run.log(budget, norm=norm, **smooth)
        if run.due():
            _save(run, vae, tuned, average, optimizers, budget=budget)
    _save(run, vae, tuned, average, optimizers, budget=budget)


def _batch(recipe: DecoderRecipe, rank: Rank, step: int, cache: Cache, vae: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Latents as the decoder takes them, the video they stand for in -1..1, and the object's mask."""
    rng = random.Random(f"decoder {recipe.seed} {rank.index} {step}")
    common = random.Random(f"decoder {recipe.seed} {step}")
    shape = common.choice(sorted(cache.scenes))
    height, width = SHAPES[shape]
    encoded, scenes = cache.draw(rng, shape=shape, count=recipe.batch_size)
    if common.random() < 0.5:
        encoded = encoded[:, :, : encoded.shape[2] // 2 + 1]
    num_frames = (encoded.shape[2] - 1) * 4 + 1
    windows, clips, masks = [], [], []
    side = recipe.cells
    for latents, scene in zip(encoded, scenes, strict=True):
        top = rng.randrange(height // SCALE - side + 1)
        left = rng.randrange(width // SCALE - side + 1)
        windows.append(latents[:, :, top : top + side, left : left + side])
        view = Window(top * SCALE, left * SCALE, side * SCALE, side * SCALE)
        drawing = draw(scene, height=height, width=width, window=view)
        clips.append(drawing.frames_TCHW[:num_frames])
        masks.append(drawing.mask_THW[:num_frames])
    mean, spread = latent_statistics(vae)
    latents = (torch.stack(windows) * spread + mean).to(rank.device)
    return latents, to_video(torch.stack(clips)).to(rank.device), torch.stack(masks).to(rank.device)


def _save(
    run: Run,
    vae: Any,
    tuned: torch.nn.Module,
    average: MovingAverage,
    optimizers: list[torch.optim.Optimizer],
    *,
    budget: Budget,
) -> None:
    """Checkpoint, and the autoencoder with the averaged decoder."""
    if not run.rank.is_first:
        return
    run.save(pack(tuned, average, *optimizers), {"step": budget.step, "spent_seconds": budget.elapsed()})
    current = {name: p.detach().clone() for name, p in tuned.named_parameters()}
    average.copy_to(tuned)
    vae.save_pretrained(run.folder / "vae")
    with torch.no_grad():
        for name, p in tuned.named_parameters():
            p.copy_(current[name])
