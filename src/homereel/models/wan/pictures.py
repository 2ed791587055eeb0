"""What Wan is steered by besides words: known frames as channels, footage and masks as control, a look by CLIP.

Shape letters: B batch, C channels, T frames, H height, W width, L tokens, D features. Pixels are in -1..1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from homereel.core.inputs import Inputs, Pixels
from homereel.core.plan import Plan
from homereel.models.picture import fit_mask, fit_picture, fit_video, fit_within
from homereel.models.wan.config import MASK_CHANNELS
from homereel.models.wan.vae import encode_video, latent_statistics


def encode_clip(vae: Any, video_BCTHW: Tensor, *, whole: bool) -> Tensor:
    """Normalised latents in float32, of one pass or (to bound memory) group by group as diffusers does."""
    pixels = video_BCTHW.to(vae.device, vae.dtype)
    latents = encode_video(vae, pixels).chunk(2, dim=1)[0] if whole else vae.encode(pixels).latent_dist.mode()
    mean, spread = (part.to(vae.device) for part in latent_statistics(vae))
    return (latents.float() - mean) / spread


def resize_latents(latents_BCTHW: Tensor, *, size: Sequence[int]) -> Tensor:
    """The same clip at another size (H, W): bicubic, for what that leaves soft is covered by noise."""
    _, _, frames, *old = latents_BCTHW.shape
    if tuple(old) == tuple(size):
        return latents_BCTHW
    pictures = latents_BCTHW[0].transpose(0, 1).float()
    large = functional.interpolate(pictures, size=tuple(size), mode="bicubic", align_corners=False, antialias=True)
    return large.view(frames, -1, *size).transpose(0, 1)[None]


def known_frames(inputs: Inputs, *, plan: Plan) -> Tensor:
    """(1, 3, T, H, W): the given pictures at their frames, grey elsewhere."""
    video = torch.zeros(1, 3, plan.num_frames, plan.height, plan.width)
    for picture in inputs.pictures:
        video[0, :, picture.frame] = fit_picture(picture.pixels, width=plan.width, height=plan.height)
    return video


def picture_channels(latents: Tensor, *, known: Sequence[int], num_frames: int) -> Tensor:
    """Beside the latents (1, C, T, H, W) of known frames, channels that are 1 where a frame is known.

    The first latent frame stands for one frame of the clip and each other for four, one a channel; so that all
    have four, the first frame's word counts four times.
    """
    _, _, frames, height, width = latents.shape
    says = torch.zeros(num_frames)
    says[list(known)] = 1
    says = torch.cat([says[:1].repeat(MASK_CHANNELS), says[1:]]).view(frames, MASK_CHANNELS).T
    mask = says.view(1, MASK_CHANNELS, frames, 1, 1).expand(-1, -1, -1, height, width)
    return torch.cat([mask.to(latents), latents], dim=1)


def look_at(image_encoder: Any, pictures: Sequence[Pixels], *, processor: Any) -> Tensor:
    """What CLIP sees, from its last layer but one: (pictures, L, D)."""
    pixels = processor(images=list(pictures), return_tensors="pt").pixel_values
    seen = image_encoder(pixels.to(image_encoder.device, image_encoder.dtype), output_hidden_states=True)
    features: Tensor = seen.hidden_states[-2]
    return features


def control_latents(vae: Any, inputs: Inputs, *, plan: Plan, whole: bool) -> Tensor:
    """What steers VACE (Jiang et al. 2025, arXiv 2503.07598): (1, 2C + s * s, references + T, H, W).

    Footage is split by the mask into what is kept and what is made anew; each half is encoded by itself, and the
    mask's squares of s x s pixels lie beside them as channels. Without a mask the footage steers everywhere;
    frames without footage are free, and a given picture is kept whole.
    """
    video, mask = _steering(inputs, plan=plan)
    kept = encode_clip(vae, video * (1 - mask), whole=whole)
    anew = encode_clip(vae, video * mask, whole=whole)
    latents = torch.cat([kept, anew], dim=1)
    squares = _squares(mask, like=latents, scale=plan.height // latents.shape[-2])
    for reference in inputs.references:  # as the makers do, the last one comes first
        canvas = fit_within(reference, width=plan.width, height=plan.height)
        seen = encode_clip(vae, canvas[None, :, None], whole=whole)
        latents = torch.cat([torch.cat([seen, torch.zeros_like(seen)], dim=1), latents], dim=2)
        squares = torch.cat([torch.zeros_like(squares[:, :, :1]), squares], dim=2)
    return torch.cat([latents, squares.to(latents)], dim=1)


def _steering(inputs: Inputs, *, plan: Plan) -> tuple[Tensor, Tensor]:
    """The video (1, 3, T, H, W) and its mask (1, 1, T, H, W) of zeros and ones; 1 is made anew."""
    size = {"width": plan.width, "height": plan.height}
    video, mask = known_frames(inputs, plan=plan), torch.ones(1, 1, plan.num_frames, plan.height, plan.width)
    if inputs.video is not None:
        given = fit_video(inputs.video, **size)
        pictures = {picture.frame for picture in inputs.pictures}
        free = [frame for frame in range(given.shape[1]) if frame not in pictures]  # what comes after stays free
        video[0, :, free] = given[:, free]
        if inputs.mask is not None:
            mask[0, 0, free] = _binary(inputs.mask, **size)[free]
    mask[0, 0, [picture.frame for picture in inputs.pictures]] = 0
    return video, mask


def _binary(mask: NDArray[np.uint8], *, width: int, height: int) -> Tensor:
    return (fit_mask(mask, width=width, height=height) > 0.5).float()


def _squares(mask: Tensor, *, like: Tensor, scale: int) -> Tensor:
    """(1, 1, T, H, W) at the size of pixels to (1, s * s, latent frames, H / s, W / s)."""
    frames, height, width = like.shape[2:]
    squares = mask[0, 0].view(-1, height, scale, width, scale).permute(2, 4, 0, 1, 3).flatten(0, 1)
    return functional.interpolate(squares[None], size=(frames, height, width), mode="nearest-exact")
