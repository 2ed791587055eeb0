"""Damage like that which a video model and its autoencoder do: blur, noise, drifting brightness, wobbling edges.

Frames are TCHW uint8 throughout.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def blurred(frames: Tensor, *, sigma: float = 1.0) -> Tensor:
    offsets = torch.arange(-3, 4).float()
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, 7)
    wide = F.conv2d(F.pad(frames.float(), (3, 3, 0, 0), mode="replicate"), kernel, groups=3)
    both = F.conv2d(F.pad(wide, (0, 0, 3, 3), mode="replicate"), kernel.transpose(2, 3), groups=3)
    return as_bytes(both)


def noisy(frames: Tensor, generator: torch.Generator, *, most: float = 6.0) -> Tensor:
    return as_bytes(frames.float() + (torch.rand(frames.shape, generator=generator) * 2 - 1) * most)


def drifting(frames: Tensor, generator: torch.Generator, *, most: float = 0.05) -> Tensor:
    """Brightness that swells and fades over the clip, and a slight tint."""
    phase = torch.linspace(0, 6.3, len(frames)) + 6.3 * torch.rand(1, generator=generator)
    tint = 1 + (torch.rand(3, generator=generator) - 0.5) * most
    return as_bytes(frames.float() * (1 + most * torch.sin(phase)).view(-1, 1, 1, 1) * tint.view(1, 3, 1, 1))


def wobbling(frames: Tensor, generator: torch.Generator) -> Tensor:
    """Every place moves by up to a pixel, anew in every frame."""
    num, _, height, width = frames.shape
    coarse = torch.randn(num, 2, 6, 6, generator=generator)
    shift = F.interpolate(coarse, (height, width), mode="bilinear").clamp(-1, 1)
    v, u = torch.meshgrid(
        (torch.arange(height) + 0.5) / height * 2 - 1, (torch.arange(width) + 0.5) / width * 2 - 1, indexing="ij"
    )
    grid = torch.stack([u + shift[:, 0] * 2 / width, v + shift[:, 1] * 2 / height], -1)
    return as_bytes(F.grid_sample(frames.float(), grid, align_corners=False, padding_mode="border"))


def all_at_once(frames: Tensor, *, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return drifting(noisy(wobbling(blurred(frames), generator), generator), generator)


def as_bytes(frames: Tensor) -> Tensor:
    return frames.round().clamp(0, 255).to(torch.uint8)
