"""What a family says of a model without loading it: its grid, its standard clip, the shapes inside."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """Which sizes and lengths a model can make: sides are multiples, lengths are frame_multiple * n + 1."""

    width_multiple: int
    height_multiple: int
    frame_multiple: int
    max_width: int
    max_height: int
    max_frames: int


@dataclass(frozen=True)
class Defaults:
    """The standard clip of a model and the settings that suit it."""

    width: int
    height: int
    num_frames: int
    fps: float
    steps: int
    guidance: float
    shift: float
    sampler: str


@dataclass(frozen=True)
class Shapes:
    """What one clip looks like inside a model. Bytes are estimates of working memory besides the weights."""

    latents: tuple[int, ...]
    num_tokens: int
    denoise_bytes: int
    decode_bytes: int
