"""Given pictures in LTX-2: the first frame takes its place in the clip, others stand beside it as further tokens
that bear the time of their frame, so any frame can be given.

Shape letters: B batch, C channels, T frames, H height, W width, S tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from homereel.core.inputs import Pixels, PlacedPicture
from homereel.models.ltx.layout import LtxLayout, pack_video
from homereel.models.picture import fit_picture


@dataclass(frozen=True)
class KnownTokens:
    """Pictures as tokens at one size: of the first frame (1, S, C), and of later frames one after the other."""

    first: Tensor | None = None
    later: Tensor | None = None
    later_frames: tuple[int, ...] = ()

    @property
    def nothing(self) -> bool:
        return self.first is None and self.later is None

    def mask(self, layout: LtxLayout) -> Tensor:
        """(1, S) on the CPU: 1 where a token is known."""
        mask = torch.zeros(1, layout.sequence)
        if self.first is not None:
            mask[:, : layout.frame_tokens] = 1
        mask[:, layout.video_tokens :] = 1
        return mask

    def over(self, clip_BSC: Tensor) -> Tensor:
        """The clip's tokens with the known ones in their places, later pictures behind."""
        if self.first is not None:
            clip_BSC = torch.cat([self.first.to(clip_BSC), clip_BSC[:, self.first.shape[1] :]], dim=1)
        return clip_BSC if self.later is None else torch.cat([clip_BSC, self.later.to(clip_BSC)], dim=1)


def encode_pictures(vae: Any, pictures: Sequence[PlacedPicture], *, width: int, height: int, crf: int) -> KnownTokens:
    """Pictures of any size, made to fit."""
    tokens = {picture.frame: _encode(vae, picture.pixels, width=width, height=height, crf=crf) for picture in pictures}
    first = tokens.pop(0, None)
    later = torch.cat(list(tokens.values()), dim=1) if tokens else None
    return KnownTokens(first=first, later=later, later_frames=tuple(tokens))


def token_places(places: Tensor, *, later_frames: Sequence[int], layout: LtxLayout, fps: float) -> Tensor:
    """Where tokens lie, (1, 3, S, 2): from and to in seconds, rows and columns. A later picture lasts one frame."""
    added = [places]
    for frame in later_frames:
        own = places[:, :, : layout.frame_tokens].clone()
        own[:, 0, :, 0], own[:, 0, :, 1] = frame / fps, (frame + 1) / fps
        added.append(own)
    return torch.cat(added, dim=2)


def recompressed(image: Pixels, *, crf: int) -> Pixels:
    """The picture as H.264 leaves it at this quality: LTX was trained on stills from compressed video, and a picture
    that is cleaner than these tends to stay still. Odd rows and columns are cut off.
    """
    import av

    height, width = (side // 2 * 2 for side in image.shape[:2])
    if not height or not width:
        return image
    encoder: Any = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.framerate = width, height, "yuv420p", 1
    encoder.time_base, encoder.thread_count = 1, 1  # one thread: the same picture on every machine
    encoder.options = {"crf": str(crf), "preset": "veryfast"}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="rgb24")
    packets = [*encoder.encode(frame.reformat(format="yuv420p")), *encoder.encode(None)]
    decoder: Any = av.CodecContext.create("h264", "r")
    frames = [decoded for packet in packets for decoded in decoder.decode(packet)] + decoder.decode(None)
    pixels: Pixels = frames[0].to_ndarray(format="rgb24")
    return pixels


def _encode(vae: Any, image: Pixels, *, width: int, height: int, crf: int) -> Tensor:
    """Normalised tokens (1, S, C) in float32."""
    picture = fit_picture(recompressed(image, crf=crf), width=width, height=height)
    latents = vae.encode(picture[None, :, None].to(vae.device, vae.dtype)).latent_dist.mode().float()
    mean, spread = (part.float().view(1, -1, 1, 1, 1) for part in (vae.latents_mean, vae.latents_std))
    tokens: Tensor = pack_video((latents - mean) / spread)
    return tokens
