"""Wan's video autoencoder run over a whole clip at once, with gradients: for training, and to encode.

diffusers' own path feeds causal convolutions through a cache, one latent frame at a time. Over a whole clip the
same causal padding gives the same numbers (within float rounding), trains, and is faster where memory allows. What is
only looked at is decoded by `stream.py`.
Shape letters: B batch, C channels, T frames, H height, W width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def encode_video(vae: Any, video_BCTHW: Tensor) -> Tensor:
    """Mean and log-variance, stacked on the channel axis, of video in -1..1 with 4n+1 frames (not normalised)."""
    patch = vae.config.patch_size
    x = video_BCTHW if patch is None else patchify(video_BCTHW, patch)
    encoder = vae.encoder
    x = encoder.conv_in(x)
    for block in encoder.down_blocks:
        x = _down_block(block, x)
    x = encoder.mid_block(x)
    x = encoder.conv_out(encoder.nonlinearity(encoder.norm_out(x)))
    moments: Tensor = vae.quant_conv(x)
    return moments


def decode_latents(vae: Any, latents_BCTHW: Tensor) -> Tensor:
    """Video, roughly in -1..1 and not clamped, of latents as the decoder takes them (mean and spread restored)."""
    decoder = vae.decoder
    x = decoder.conv_in(vae.post_quant_conv(latents_BCTHW))
    x = decoder.mid_block(x)
    for block in decoder.up_blocks:
        x = _up_block(block, x)
    x = decoder.conv_out(decoder.nonlinearity(decoder.norm_out(x)))
    patch = vae.config.patch_size
    return x if patch is None else unpatchify(x, patch)


def latent_statistics(vae: Any) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the latents a channel, shaped to broadcast over BCTHW."""
    mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1)
    spread = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)
    return mean, spread


def restore_latents(vae: Any, latents_BCTHW: Tensor) -> Tensor:
    """Normalised latents as the decoder takes them: with their mean and spread, where the decoder is."""
    mean, spread = (part.to(latents_BCTHW) for part in latent_statistics(vae))
    return (latents_BCTHW * spread + mean).to(vae.device, vae.dtype)


def patchify(video_BCTHW: Tensor, patch: int) -> Tensor:
    """Fold squares of patch × patch pixels into channels, in the order of Wan's files (channel, column, row)."""
    b, c, t, h, w = video_BCTHW.shape
    x = video_BCTHW.view(b, c, t, h // patch, patch, w // patch, patch)
    return x.permute(0, 1, 6, 4, 2, 3, 5).reshape(b, c * patch * patch, t, h // patch, w // patch)


def unpatchify(x: Tensor, patch: int) -> Tensor:
    """The inverse of `patchify`."""
    b, c, t, h, w = x.shape
    video = x.view(b, c // (patch * patch), patch, patch, t, h, w)
    return video.permute(0, 1, 4, 5, 3, 6, 2).reshape(b, -1, t, h * patch, w * patch)


def _down_block(block: Any, x: Tensor) -> Tensor:
    """A residual down block (Wan 2.2), or one of the flat layers of Wan 2.1's encoder."""
    if hasattr(block, "resnets"):
        main = x
        for resnet in block.resnets:
            main = resnet(main)
        if block.downsampler is not None:
            main = _downsample(block.downsampler, main)
        out: Tensor = main + block.avg_shortcut(x)
        return out
    return _downsample(block, x) if hasattr(block, "resample") else block(x)


def _up_block(block: Any, x: Tensor) -> Tensor:
    main = x
    for resnet in block.resnets:
        main = resnet(main)
    if hasattr(block, "avg_shortcut"):
        if block.upsampler is not None:
            main = _upsample(block.upsampler, main)
        return main if block.avg_shortcut is None else main + block.avg_shortcut(x, first_chunk=True)
    for upsampler in block.upsamplers or ():
        main = _upsample(upsampler, main)
    return main


def _downsample(layer: Any, x: Tensor) -> Tensor:
    x = _each_frame(layer.resample, x)
    if layer.mode == "downsample3d" and x.shape[2] > 1:
        x = torch.cat([x[:, :, :1], layer.time_conv(x)], 2)
    return x


def _upsample(layer: Any, x: Tensor) -> Tensor:
    """The first frame stays one frame; each later one becomes two."""
    if layer.mode == "upsample3d" and x.shape[2] > 1:
        later = layer.time_conv(x[:, :, 1:])
        b, c, t, h, w = later.shape
        later = later.view(b, 2, c // 2, t, h, w).permute(0, 2, 3, 1, 4, 5).reshape(b, c // 2, 2 * t, h, w)
        x = torch.cat([x[:, :, :1], later], 2)
    return _each_frame(layer.resample, x)


def _each_frame(layer: Any, x_BCTHW: Tensor) -> Tensor:
    """Apply a 2-D layer to every frame."""
    b, c, t, h, w = x_BCTHW.shape
    y: Tensor = layer(x_BCTHW.transpose(1, 2).reshape(b * t, c, h, w))
    return y.view(b, t, *y.shape[1:]).transpose(1, 2)
