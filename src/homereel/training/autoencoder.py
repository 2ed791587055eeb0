"""Trains the video autoencoder on drawn clips.

What it must keep is what the exam asks: the object's outline and how it moves. So the loss weighs the object and its
edge above the plain wall, punishes flicker (differences between frames), and most clips are cut around the object.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from homereel.models.wan.vae import decode_latents, encode_video
from homereel.training.muon import Muon
from homereel.training.ranks import Rank
from homereel.training.run import Budget, MovingAverage, Run, learning_rate_factor, pack, unpack
from homereel.training.world import Drawing, draw, sample_scene
from homereel.training.world.draw import Window
from homereel.training.world.motion import path_of

SIZES = ((96, 96), (96, 96), (80, 144))
"""Heights and widths that clips are drawn at."""


@dataclass(frozen=True)
class AutoencoderRecipe:
    """How the autoencoder is built and trained."""

    base_dim: int = 32
    decoder_base_dim: int | None = None
    latent_channels: int = 16
    batch_size: int = 2
    """Clips a rank and step."""
    learning_rate: float = 1e-3
    crops: tuple[int, ...] = (48, 48, 48, 64)
    """Sides of the square windows that clips are cut to; the first part of the budget takes the first."""
    num_frames: int = 33
    short_frames: int = 17
    short_share: float = 0.5
    """The first part of the budget trains mostly on short clips, which cost half."""
    kl_weight: float = 1e-4
    flicker_weight: float = 0.5
    statistics_clips: int = 48
    """Clips over which the latents' mean and spread are measured at the end."""
    seed: int = 0


def build_autoencoder(recipe: AutoencoderRecipe) -> Any:
    """A narrow AutoencoderKLWan: 2×2 pixel patches, then 4× in space and 4× in time, so 8× and 4× in all."""
    from diffusers import AutoencoderKLWan

    channels = recipe.latent_channels
    torch.manual_seed(recipe.seed)
    vae: Any = AutoencoderKLWan(
        base_dim=recipe.base_dim,
        decoder_base_dim=recipe.decoder_base_dim,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        is_residual=True,
        patch_size=2,
        in_channels=12,
        out_channels=12,
        z_dim=channels,
        latents_mean=[0.0] * channels,
        latents_std=[1.0] * channels,
    )
    with torch.no_grad():
        vae.quant_conv.weight[channels:].zero_()
        vae.quant_conv.bias[channels:].fill_(-6.0)
        for module in vae.modules():
            if type(module).__name__ == "WanResidualBlock":
                module.conv2.weight.mul_(0.1)
                module.conv2.bias.zero_()
            if isinstance(module, torch.nn.Conv3d):
                module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last_3d)
    return vae


def train_autoencoder(rank: Rank, recipe: AutoencoderRecipe, budget: Budget, folder: Path) -> None:
    """Train until the budget is spent, resuming from the folder's checkpoint; leaves `folder/vae`."""
    vae = build_autoencoder(recipe).to(rank.device)
    optimizers = _optimizers(vae, recipe)
    average = MovingAverage(vae, decay=0.99)
    run = Run(folder, rank)
    if (saved := run.load()) is not None:
        unpack(saved[0], vae, average, *optimizers)
        budget.resume(step=saved[1]["step"], spent_seconds=saved[1]["spent_seconds"])
    losses: dict[str, float] = {}
    while not rank.any(budget.share() >= 1):
        share, step = budget.share(), budget.step
        _set_rates(optimizers, recipe.learning_rate * learning_rate_factor(share, step, warm_up_steps=40))
        with rank.autocast():
            loss, parts = _loss(vae, _batch(recipe, rank, step, share), recipe, share)
        loss.backward()
        norm = rank.average_gradients(vae.parameters())
        torch.nn.utils.clip_grads_with_norm_(vae.parameters(), 1.0, torch.tensor(norm))
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        budget.step += 1
        average.update(vae, step=step)
        for name, value in parts.items():
            losses[name] = value + (losses.get(name, value) - value) * 0.97
        if step % 50 == 0:
            run.log(budget, norm=norm, **losses)
        if run.due():
            _save(run, vae, average, optimizers, budget)
    _save(run, vae, average, optimizers, budget)
    if rank.is_first:
        finish_autoencoder(vae, average, recipe, folder)


def finish_autoencoder(vae: Any, average: MovingAverage, recipe: AutoencoderRecipe, folder: Path) -> None:
    """Take the averaged weights, measure the latents' mean and spread over fresh clips, and save."""
    average.copy_to(vae)
    rng = random.Random(recipe.seed + 1)
    collected = []
    device = next(vae.parameters()).device
    with torch.no_grad():
        for _ in range(recipe.statistics_clips):
            clip = draw(sample_scene(rng)).frames_TCHW
            moments = encode_video(vae, to_video(clip[None]).to(device))
            collected.append(moments[:, : recipe.latent_channels].cpu())
    latents = torch.cat(collected)
    vae.register_to_config(
        latents_mean=latents.mean((0, 2, 3, 4)).tolist(), latents_std=latents.std((0, 2, 3, 4)).tolist()
    )
    vae.save_pretrained(folder / "vae")


def to_video(frames_BTCHW: Tensor) -> Tensor:
    """uint8 frames to video in -1..1, channels before frames."""
    return frames_BTCHW.transpose(1, 2).float() / 127.5 - 1


def edge_weights(mask_BTHW: Tensor) -> Tensor:
    """Pixel weights (B,1,T,H,W) of mean 1: the object's surroundings count 3, the band along its outline 7."""
    mask = mask_BTHW.unsqueeze(1)
    grown = F.max_pool3d(mask, (1, 5, 5), 1, (0, 2, 2))
    shrunk = 1 - F.max_pool3d(1 - mask, (1, 5, 5), 1, (0, 2, 2))
    weights = 1 + 2 * grown + 4 * (grown - shrunk)
    return weights / weights.mean()


def _loss(
    vae: Any, batch: tuple[Tensor, Tensor], recipe: AutoencoderRecipe, share: float
) -> tuple[Tensor, dict[str, float]]:
    video, mask = batch
    mean, log_variance = encode_video(vae, video).float().chunk(2, 1)
    log_variance = log_variance.clamp(-20, 5)
    restored = decode_latents(vae, mean + torch.randn_like(mean) * (0.5 * log_variance).exp())
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    late = min(1.0, max(0.0, share - 0.1) / 0.2)
    loss, figures = restoration_loss(
        restored, video, mask, sharpness=0.3 * late, steadiness=recipe.flicker_weight * late
    )
    return loss + recipe.kl_weight * divergence, {**figures, "kl": divergence.item()}


def restoration_loss(
    restored: Tensor, video: Tensor, mask: Tensor, *, sharpness: float, steadiness: float
) -> tuple[Tensor, dict[str, float]]:
    """Weighted pixel error, error of spatial differences and error of temporal differences; and the PSNR reached."""
    weights = edge_weights(mask)
    error = restored.float() - video
    loss = (error.abs() * weights).mean() + 4 * (error.square() * weights).mean()
    for axis, factor in ((3, sharpness), (4, sharpness), (2, steadiness)):
        later = weights.narrow(axis, 1, weights.shape[axis] - 1)
        loss = loss + factor * (error.diff(dim=axis).abs() * later).mean()
    square = error.detach().square().mean(1, keepdim=True)
    figures = {"loss": loss.item(), "psnr": -10 * torch.log10(square.mean() / 4).item()}
    near = weights > weights.amin(dim=(2, 3, 4), keepdim=True) * 1.01
    if near.any():
        figures["object_psnr"] = -10 * torch.log10(square[near].mean() / 4).item()
    return loss, figures


def _batch(recipe: AutoencoderRecipe, rank: Rank, step: int, share: float) -> tuple[Tensor, Tensor]:
    """Video (B,3,T,h,w) in -1..1 and the object's mask (B,T,h,w), the same for a given step and rank."""
    common = random.Random(f"size {recipe.seed} {step}")
    rng = random.Random(f"{recipe.seed} {rank.index} {step}")
    torch.manual_seed(rng.getrandbits(31))
    early = share < recipe.short_share
    num_frames = recipe.short_frames if common.random() < (0.8 if early else 0.3) else recipe.num_frames
    side = recipe.crops[0] if early else common.choice(recipe.crops)
    drawings = [_crop(rng, recipe, num_frames, side) for _ in range(max(1, recipe.batch_size * 48 // side))]
    video = to_video(torch.stack([d.frames_TCHW for d in drawings])).to(rank.device)
    return video, torch.stack([d.mask_THW for d in drawings]).to(rank.device)


def _crop(rng: random.Random, recipe: AutoencoderRecipe, num_frames: int, side: int) -> Drawing:
    """A square window of a drawn clip, three times in four around the place of the object at some moment."""
    scene = sample_scene(rng)
    height, width = rng.choice(SIZES)
    path = path_of(scene, num_frames=recipe.num_frames, fps=16.0, aspect=width / height)
    moment = rng.randrange(recipe.num_frames)
    if rng.random() < 0.75:
        x = (float(path.x[moment]) - float(path.pan[moment])) * float(path.zoom[moment]) / (width / height)
        middle = ((float(path.y[moment]) + 1) / 2 * height, (x + 1) / 2 * width)
    else:
        middle = (rng.uniform(0, height), rng.uniform(0, width))
    side = min(side, height)
    top = round(min(max(middle[0] + rng.uniform(-10, 10) - side / 2, 0), height - side))
    left = round(min(max(middle[1] + rng.uniform(-10, 10) - side / 2, 0), width - side))
    drawing = draw(
        scene, height=height, width=width, num_frames=recipe.num_frames, window=Window(top, left, side, side)
    )
    start = rng.randrange(recipe.num_frames - num_frames + 1)
    frames, mask = (
        drawing.frames_TCHW[start : start + num_frames],
        drawing.mask_THW[start : start + num_frames],
    )
    return Drawing(frames.flip(-1), mask.flip(-1)) if rng.random() < 0.5 else Drawing(frames, mask)


def _optimizers(vae: Any, recipe: AutoencoderRecipe) -> list[torch.optim.Optimizer]:
    kernels = [p for p in vae.parameters() if p.ndim >= 4 and p.shape[0] > 12]
    chosen = {id(p) for p in kernels}
    rest = [p for p in vae.parameters() if id(p) not in chosen]
    adam = torch.optim.AdamW(rest, lr=recipe.learning_rate * 1.5, betas=(0.9, 0.98), weight_decay=0.0)
    return [adam, Muon(kernels, lr=recipe.learning_rate * 2)]


def _set_rates(optimizers: list[torch.optim.Optimizer], rate: float) -> None:
    for optimizer, factor in zip(optimizers, (1.5, 2.0), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate * factor


def _save(run: Run, vae: Any, average: MovingAverage, optimizers: list[torch.optim.Optimizer], budget: Budget) -> None:
    run.save(pack(vae, average, *optimizers), {"step": budget.step, "spent_seconds": budget.elapsed()})
