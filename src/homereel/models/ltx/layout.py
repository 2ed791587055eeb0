"""How one stage of an LTX-2 clip lies in memory: video and sound as tokens, one after the other in a single tensor.

Shape letters: B batch, C channels, T frames, H height, W width, S video tokens, L sound tokens, D features, M mel bins.
Works on any tensor and imports no torch, so that plans can be made from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from homereel.models.ltx.config import MEL_SCALE, LtxConfig


@dataclass(frozen=True)
class LtxLayout:
    """`num_later` pictures that stand at later frames follow the video's tokens, each as one frame of tokens."""

    channels: int
    frames: int
    height: int
    width: int
    audio_channels: int
    audio_frames: int
    audio_bins: int
    num_later: int = 0

    @property
    def frame_tokens(self) -> int:
        return self.height * self.width

    @property
    def video_tokens(self) -> int:
        """Those of the clip itself."""
        return self.frames * self.frame_tokens

    @property
    def sequence(self) -> int:
        """Video tokens with those of later pictures: what the transformer sees."""
        return self.video_tokens + self.num_later * self.frame_tokens

    @property
    def audio_features(self) -> int:
        return self.audio_channels * self.audio_bins

    @property
    def video_shape(self) -> tuple[int, int, int, int, int]:
        return 1, self.channels, self.frames, self.height, self.width

    def noise(self, *, refining: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes in the order and layout in which diffusers' pipelines draw noise: tokens where anything is known."""
        if refining or self.num_later:
            return (1, self.sequence, self.channels), (1, self.audio_frames, self.audio_features)
        return self.video_shape, (1, self.audio_channels, self.audio_frames, self.audio_bins)

    def split(self, latents: Any) -> tuple[Any, Any]:
        """A stage's latents to video (1, S, C), later pictures included, and sound (1, L, D)."""
        cut = self.sequence * self.channels
        return latents[:cut].view(1, self.sequence, self.channels), latents[cut:].view(
            1, self.audio_frames, self.audio_features
        )

    def without_later(self) -> LtxLayout:
        """What a stage leaves: the clip alone."""
        return LtxLayout(**{**self.__dict__, "num_later": 0})

    def unpack_video(self, video_BSC: Any) -> Any:
        """The clip's tokens (1, S, C) to latents (1, C, T, H, W)."""
        tokens = video_BSC[:, : self.video_tokens]
        return tokens.transpose(1, 2).reshape(self.video_shape)

    def unpack_audio(self, audio_BLD: Any) -> Any:
        """Sound tokens (1, L, D) to latents (1, C, L, M)."""
        shape = (1, self.audio_frames, self.audio_channels, self.audio_bins)
        return audio_BLD.reshape(shape).transpose(1, 2)


def pack_video(video_BCTHW: Any) -> Any:
    """Latents (1, C, T, H, W) to tokens (1, S, C), frame by frame and row by row."""
    return video_BCTHW.flatten(2).transpose(1, 2)


def pack_audio(audio_BCLM: Any) -> Any:
    """Latents (1, C, L, M) to tokens (1, L, D)."""
    return audio_BCLM.transpose(1, 2).flatten(2)


def layout_of(
    config: LtxConfig, *, width: int, height: int, num_frames: int, fps: float, num_later: int = 0
) -> LtxLayout:
    """The layout of a clip of this size; its sound is as long as its frames."""
    return LtxLayout(
        channels=config.channels,
        frames=(num_frames - 1) // config.frame_scale + 1,
        height=height // config.scale,
        width=width // config.scale,
        audio_channels=config.audio_channels,
        audio_frames=max(1, round(num_frames / fps * config.mel_rate / MEL_SCALE)),
        audio_bins=config.mel_bins // MEL_SCALE,
        num_later=num_later,
    )


def num_values(layout: LtxLayout) -> int:
    """Numbers in a stage's latents."""
    return math.prod((layout.sequence, layout.channels)) + layout.audio_frames * layout.audio_features
