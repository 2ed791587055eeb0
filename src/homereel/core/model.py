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
    guidance_2: float | None = None  # for the second expert, where there is one
    strength: float = 0.7  # how much of given footage is made anew
    sigma_max: float | None = None  # where a student of rCM starts; None is as its task has it
    sigmas: tuple[float, ...] | None = None  # times that it was distilled for, where they are its own; the last is 0
    passes: tuple[str, ...] | None = None  # that it was trained with, such as tuned sparse attention
    passes_from_tokens: int = 0  # in shorter clips those passes cost more than they save

    def passes_for(self, num_tokens: int) -> tuple[str, ...]:
        """The model's own passes in a clip of so many tokens."""
        return (self.passes or ()) if num_tokens >= self.passes_from_tokens else ()


@dataclass(frozen=True)
class Shapes:
    """What one clip looks like inside a model. Bytes are estimates of working memory besides the weights.

    What has a default may be left out by a family; then plans tell less exactly how long its clips take.
    """

    latents: tuple[int, ...]
    num_tokens: int
    denoise_bytes: int
    decode_bytes: int
    tile_bytes: int | None = (
        None  # of decoding in one go, as a tile of a larger clip is; None: no tiles can be asked for
    )
    text_tokens: int = 512  # of one text, with its padding if the family pads
    decode_operations: float = 0.0  # additions and multiplications from latents to frames
    sound_seconds: float = 0.0  # of sound that is decoded beside them


@dataclass(frozen=True)
class Blocks:
    """The repeated blocks of a denoiser, for techniques that change how they compute.

    `layout` says how a block is built, which is what a technique has to know of a family: "wan" (attention of the
    picture's tokens to themselves, then to words), "joint" (picture and words attend together), "two streams"
    (picture and sound, each as in "wan"). `residual_ratios` are how much what all blocks add grows from one step to
    the next, over the steps of a clip, where that was measured.
    """

    layout: str
    num_blocks: int
    num_heads: int
    head_size: int
    residual_ratios: tuple[float, ...] = ()
    num_side_blocks: int = 0  # as large as these, which run beside them


@dataclass(frozen=True)
class Stage:
    """One run of the denoising loop; most models make a clip in one.

    Further stages refine (LTX-2's second size) or go on in time (windows of a long film). Noise of the shapes in
    `noise` is drawn on the CPU in float32, one after the other. `sigmas` replace the sampler's own schedule and end
    in 0; `first_step` steps are left out where a known clip is the start.
    """

    noise: tuple[tuple[int, ...], ...]
    num_steps: int
    first_step: int = 0
    sigmas: tuple[float, ...] | None = None

    @property
    def steps_to_do(self) -> int:
        """Steps that are really computed."""
        return self.num_steps - self.first_step
