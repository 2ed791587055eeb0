"""How much an autoencoder keeps of unseen clips: PSNR over the whole frame and over the object's surroundings."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from homereel.models.wan.vae import decode_latents, encode_video
from homereel.training.world import Drawing, Scene, draw, sample_scene


@dataclass(frozen=True)
class Reconstruction:
    """Means over clips, in decibels against the full range of a byte."""

    num_clips: int
    psnr: float
    object_psnr: float


def measure_reconstruction(vae: Any, *, num_clips: int, seed: int = 1000) -> Reconstruction:
    """Encode and decode held-out clips of the standard size."""
    whole, near = [], []
    for _, drawing, restored in restore_clips(vae, num_clips=num_clips, seed=seed):
        error = (restored.float() - drawing.frames_TCHW.float()).square().mean(1)
        region = F.max_pool2d(drawing.mask_THW.unsqueeze(1), 5, 1, 2)[:, 0]
        whole.append(_decibels(error.mean()))
        near.append(_decibels((error * region).sum() / region.sum()))
    return Reconstruction(num_clips, sum(whole) / num_clips, sum(near) / num_clips)


def restore_clips(vae: Any, *, num_clips: int, seed: int) -> Iterator[tuple[Scene, Drawing, Tensor]]:
    """Held-out scenes, their drawings, and what is left after the autoencoder, uint8 (T, C, H, W)."""
    rng = random.Random(f"reconstruction {seed}")
    for _ in range(num_clips):
        scene = sample_scene(rng, held_out=True)
        drawing = draw(scene)
        yield scene, drawing, restore(vae, drawing.frames_TCHW)


def restore(vae: Any, frames_TCHW: Tensor) -> Tensor:
    """Through the encoder's mean and the decoder, as bytes."""
    with torch.no_grad():
        video = frames_TCHW.transpose(0, 1).unsqueeze(0).float() / 127.5 - 1
        mean = encode_video(vae, video).chunk(2, 1)[0]
        restored = decode_latents(vae, mean)[0].transpose(0, 1)
    return ((restored.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def _decibels(mean_square: Tensor) -> float:
    return float(10 * torch.log10(255**2 / mean_square.clamp(min=1e-6)))
