"""Decodes a film of any length in the memory of a few frames: one latent frame after the other.

diffusers' own decoder also goes group by group, but gathers all groups in float on the device, copying them each
time. Shape letters: B batch, C channels, T frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from homereel.core.errors import GenerationFailed
from homereel.models.picture import to_frames
from homereel.models.wan.vae import latent_statistics, unpatchify


def decode_film(vae: Any, latents_BCTHW: Tensor) -> NDArray[np.uint8]:
    """Normalised latents of one clip to its frames (T, H, W, 3) in ordinary memory.

    Raises GenerationFailed at the first frame with a number that is not finite.
    """
    mean, spread = (part.to(latents_BCTHW) for part in latent_statistics(vae))
    latents = (latents_BCTHW * spread + mean).to(vae.device, vae.dtype)
    _, _, frames, rows, columns = latents.shape
    scale, side = vae.config.scale_factor_temporal, vae.config.scale_factor_spatial
    film = np.empty(((frames - 1) * scale + 1, rows * side, columns * side, 3), np.uint8)
    at = 0
    for group in _groups(vae, latents):
        if not bool(torch.isfinite(group).all()):
            raise GenerationFailed(f"frame {at} was decoded to numbers that are not finite; try another seed")
        film[at : at + group.shape[2]] = to_frames(group[0])
        at += group.shape[2]
    return film


def _groups(vae: Any, latents: Tensor) -> Iterator[Tensor]:
    """(1, 3, t, H, W): one frame of the first latent frame, then several of each other; past ones are remembered."""
    vae.clear_cache()
    try:
        prepared, patch = vae.post_quant_conv(latents), vae.config.patch_size
        for index in range(prepared.shape[2]):
            video = vae.decoder(
                prepared[:, :, index : index + 1],
                feat_cache=vae._feat_map,
                feat_idx=[0],
                first_chunk=index == 0,
            )
            yield video if patch is None else unpatchify(video, patch)
    finally:
        vae.clear_cache()
