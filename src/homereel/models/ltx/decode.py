"""From LTX-2's latents to what is seen and heard. Shape letters: B batch, C channels, T frames, H height, W width,
L sound frames, M mel bins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from homereel.core.errors import GenerationFailed
from homereel.core.sound import Sound
from homereel.models.ltx.facts import TILE_FRAMES, TILE_PIXELS
from homereel.models.picture import to_frames

# Neighbouring tiles share an eighth of their side and three eighths of their length, as the makers have it.
TILE_OVERLAP_PIXELS, TILE_OVERLAP_FRAMES = 64, 24


def decode_video(vae: Any, latents_BCTHW: Tensor, *, tiled: bool) -> NDArray[np.uint8]:
    """Normalised latents to frames (T, H, W, 3). Raises GenerationFailed on numbers that are not finite."""
    video = _decode(vae, latents_BCTHW, tiled=tiled)
    if not bool(torch.isfinite(video).all()):
        raise GenerationFailed("the decoded frames hold numbers that are not finite; try another seed")
    return to_frames(video[0])


def decode_preview(vae: Any, latents_BCTHW: Tensor, *, num_frames: int) -> NDArray[np.uint8]:
    """A few frames of small latents, whatever they hold."""
    video = _decode(vae, latents_BCTHW, tiled=False)
    chosen = torch.linspace(0, video.shape[2] - 1, min(num_frames, video.shape[2])).round().long()
    return to_frames(video[0, :, chosen.to(video.device)].nan_to_num())


def decode_mel(audio_vae: Any, audio_BLD: Tensor, *, channels: int) -> Tensor:
    """Normalised sound tokens to the pitches heard over time, as the vocoder takes them."""
    mean, spread = (part.to(audio_BLD) for part in (audio_vae.latents_mean, audio_vae.latents_std))
    latents_BCLM = (audio_BLD * spread + mean).unflatten(2, (channels, -1)).transpose(1, 2)
    mel: Tensor = audio_vae.decode(latents_BCLM.to(audio_vae.device, audio_vae.dtype), return_dict=False)[0]
    return mel


def speak(vocoder: Any, mel: Tensor, *, rate: int, seconds: float) -> Sound:
    """The sound of a clip that lasts so long; what is beyond its end is cut off."""
    waves: Tensor = vocoder(mel.to(vocoder.device, vocoder.dtype))[0]
    if not bool(torch.isfinite(waves).all()):
        raise GenerationFailed("the decoded sound holds numbers that are not finite; try another seed, or --no-audio")
    samples = waves[:, : round(seconds * rate)].T.float().contiguous().cpu().numpy()
    return Sound(samples=samples, rate=rate)


def _decode(vae: Any, latents_BCTHW: Tensor, *, tiled: bool) -> Tensor:
    _set_tiles(vae, latents_BCTHW, tiled=tiled)
    mean, spread = (part.to(latents_BCTHW).view(1, -1, 1, 1, 1) for part in (vae.latents_mean, vae.latents_std))
    latents = (latents_BCTHW * spread + mean).to(vae.device, vae.dtype)
    return _decode_by_pieces(vae, latents) if tiled else _decode_whole(vae, latents)


def _decode_whole(vae: Any, latents_BCTHW: Tensor) -> Tensor:
    """A decoder that is told a time is told that no noise is left."""
    time_B = latents_BCTHW.new_zeros(1) if vae.config.timestep_conditioning else None
    video: Tensor = vae.decode(latents_BCTHW, time_B, return_dict=False)[0]
    return video


def _decode_by_pieces(vae: Any, latents_BCTHW: Tensor) -> Tensor:
    """Piece after piece in time, one fading into the next.

    The decoder makes one frame of the first cell that it is given, and that frame is left out of later pieces, so
    that all others keep their places; diffusers' own pieces come one frame late.
    """
    scale: int = vae.temporal_compression_ratio
    length, step = TILE_FRAMES // scale + 1, (TILE_FRAMES - TILE_OVERLAP_FRAMES) // scale
    video = _decode_whole(vae, latents_BCTHW[:, :, :length])
    for start in range(step, latents_BCTHW.shape[2] - (length - step), step):
        piece = _decode_whole(vae, latents_BCTHW[:, :, start : start + length])[:, :, 1:]
        known = video.shape[2] - (start * scale + 1)
        share = torch.linspace(0, 1, known + 2)[1:-1].to(piece).view(1, 1, -1, 1, 1)
        faded = torch.lerp(video[:, :, -known:], piece[:, :, :known], share)
        video = torch.cat([video[:, :, :-known], faded, piece[:, :, known:]], dim=2)
    return video


def _set_tiles(vae: Any, latents_BCTHW: Tensor, *, tiled: bool) -> None:
    """The network stays warm between clips, so its switches are set for each."""
    height, width = latents_BCTHW.shape[-2:]
    vae.enable_tiling(
        tile_sample_min_height=TILE_PIXELS,
        tile_sample_min_width=TILE_PIXELS,
        tile_sample_stride_height=_step(height, scale=vae.spatial_compression_ratio),
        tile_sample_stride_width=_step(width, scale=vae.spatial_compression_ratio),
    )
    vae.use_tiling, vae.use_framewise_decoding = tiled, False


def _step(num_cells: int, *, scale: int) -> int:
    """Pixels from tile to tile, so chosen that the last one is no single cell, which the decoder cannot mirror."""
    cells = (TILE_PIXELS - TILE_OVERLAP_PIXELS) // scale
    return (cells - 1 if num_cells % cells == 1 else cells) * scale
