"""HunyuanVideo-1.5's video autoencoder with bounded memory: attention without a mask, and tiles for large clips.

Shape letters: B batch, C channels, T frames, H height, W width, S places of a clip.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class FrameCausalAttention(nn.Module):
    """A frame sees itself and the frames before it: the same numbers as diffusers' block, whose names it keeps.

    Frame by frame there is nothing to mask. The mask that this does without holds S * S numbers, 25 GB in bfloat16
    for a clip of 121 frames at 720p that is decoded as a whole, and is filled row by row.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.norm = block.norm
        self.to_q, self.to_k, self.to_v = block.to_q, block.to_k, block.to_v
        self.proj_out = block.proj_out

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        frames, height, width = x_BCTHW.shape[2:]
        normed, places = self.norm(x_BCTHW), height * width

        def rows(layer: nn.Module) -> Tensor:
            """(B, 1, S, C)."""
            projected: Tensor = layer(normed)
            return projected.flatten(2).transpose(1, 2)[:, None].contiguous()

        query, key, value = rows(self.to_q), rows(self.to_k), rows(self.to_v)
        seen = [
            functional.scaled_dot_product_attention(query[:, :, end - places : end], key[:, :, :end], value[:, :, :end])
            for end in range(places, frames * places + 1, places)
        ]
        attended = torch.cat(seen, dim=2)[:, 0].transpose(1, 2).reshape(x_BCTHW.shape)
        out: Tensor = x_BCTHW + self.proj_out(attended)
        return out


def without_masks(vae: nn.Module) -> nn.Module:
    """The same autoencoder, each of its attentions replaced; names of tensors stay."""
    parts: Any = vae
    for half in (parts.encoder, parts.decoder):
        attentions = half.mid_block.attentions
        for index, block in enumerate(attentions):
            if block is not None:
                attentions[index] = FrameCausalAttention(block)
    return vae


def encode_picture(vae: Any, picture_CHW: Tensor) -> Tensor:
    """Normalised latents (1, C, 1, H, W) in float32 of a picture in -1..1."""
    pixels = picture_CHW[None, :, None].to(vae.device, vae.dtype)
    vae.disable_tiling()
    latents: Tensor = vae.encode(pixels).latent_dist.mode().float() * vae.config.scaling_factor
    return latents


def decode_video(vae: Any, latents_BCTHW: Tensor, *, whole: bool) -> Tensor:
    """Video, roughly in -1..1, of normalised latents; in one pass, or in overlapping tiles as diffusers has them."""
    if whole:
        vae.disable_tiling()
    else:
        vae.enable_tiling()
    latents = (latents_BCTHW / vae.config.scaling_factor).to(vae.device, vae.dtype)
    video: Tensor = vae.decode(latents, return_dict=False)[0]
    return video
