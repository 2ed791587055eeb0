"""What can be said of a HunyuanVideo-1.5 from its files alone: what it takes, its standard clip, shapes and bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from homereel.core.errors import InvalidRequest
from homereel.core.model import Blocks, Grid, Shapes, Stage
from homereel.core.plan import Plan
from homereel.core.request import Request
from homereel.models.hunyuan.config import HunyuanConfig
from homereel.models.hunyuan.text import ChatTokenizer, num_glyphs_cut
from homereel.models.residual_ratios import residual_ratios
from homereel.models.shared_facts import ITEM_BYTES, FolderFacts, texts_of

# The largest that its makers made: 4:1 at the area of 720p, and ten seconds.
MAX_SIDE, MAX_FRAMES = 1920, 241
# A clip whose widest layer is larger is decoded in tiles of this side, as diffusers does, to bound memory.
WHOLE_DECODE_BYTES = 256 * 1024**2
TILE_SIDE = 256
# The decoder's peak in multiples of its widest layer. Counted tensor by tensor at the real size it is 6, and 7 where
# a norm in float32 meets shorter numbers; one more is for what a convolution takes for itself.
LAYERS_AT_ONCE = {"float32": 7, "bfloat16": 8, "float16": 8}
# Words are not padded; a prompt is about so long, and the instruction before it.
USUAL_TEXT_TOKENS = 256
# A block's peak a token, counted in the same way: 4.7 rows of features and two of the feed-forward.
ROWS_AT_ONCE = 6


@dataclass(frozen=True)
class HunyuanFacts(FolderFacts):
    """A HunyuanVideo-1.5 known by its files only; see `ModelFacts` for what each part means."""

    config: HunyuanConfig

    name = "hunyuanvideo-1.5"
    makes_sound = False
    told_pace = False
    decoders = frozenset({"vae"})

    readers = frozenset({"text_encoder", "text_encoder_2"})

    @property
    def components(self) -> tuple[str, ...]:
        eye = ("image_encoder",) if self.config.from_picture else ()
        return ("text_encoder", "text_encoder_2", *eye, "transformer", "vae")

    @property
    def inputs(self) -> frozenset[str]:
        return frozenset({"text", "image"} if self.config.from_picture else {"text"})

    @property
    def required(self) -> frozenset[str]:
        return self.inputs - {"text"}

    @property
    def grid(self) -> Grid:
        _, rows, columns = self.config.patch
        return Grid(
            width_multiple=self.config.scale * columns,
            height_multiple=self.config.scale * rows,
            frame_multiple=self.config.frame_scale,
            max_width=MAX_SIDE,
            max_height=MAX_SIDE,
            max_frames=MAX_FRAMES,
        )

    @property
    def block_facts(self) -> Blocks:
        config = self.config
        return Blocks(
            layout="joint",
            num_blocks=config.num_blocks,
            num_heads=config.num_heads,
            head_size=config.features // config.num_heads,
            residual_ratios=residual_ratios(self.model),
        )

    def shapes(self, *, width: int, height: int, num_frames: int, dtype: str) -> Shapes:
        config = self.config
        frames = (num_frames - 1) // config.frame_scale + 1
        latents = (1, config.latent_channels, frames, height // config.scale, width // config.scale)
        num_tokens = math.prod(latents[2:]) // math.prod(config.patch)
        item = ITEM_BYTES[dtype]
        widest = self.widest_layer_bytes(latents, item_bytes=item)
        whole = LAYERS_AT_ONCE[dtype] * widest + num_frames * height * width * 3 * 8
        tile = (*latents[:3], *(min(side, TILE_SIDE // config.scale) for side in latents[3:]))
        if widest > WHOLE_DECODE_BYTES:
            widest = self.widest_layer_bytes(tile, item_bytes=item)
        return Shapes(
            latents=latents,
            num_tokens=num_tokens,
            denoise_bytes=num_tokens * (ROWS_AT_ONCE * config.features + 2 * config.feed_forward) * item
            + 8 * math.prod(latents) * 4,
            decode_bytes=LAYERS_AT_ONCE[dtype] * widest + num_frames * height * width * 3 * 8,
            tile_bytes=whole,
            text_tokens=USUAL_TEXT_TOKENS,
            decode_operations=config.decoder_operations * num_frames * height * width,
        )

    def stages(self, plan: Plan) -> tuple[Stage, ...]:
        shapes = self.shapes(width=plan.width, height=plan.height, num_frames=plan.num_frames, dtype=plan.dtype)
        even = plan.sampler == "euler" and plan.sigmas is None
        sigmas = even_sigmas(plan.steps, shift=plan.shift) if even else None
        return (Stage(noise=(shapes.latents,), num_steps=plan.steps, sigmas=sigmas),)

    def widest_layer_bytes(self, latents: Sequence[int], *, item_bytes: int) -> int:
        """Bytes of the decoder's widest layer for latents of this shape (B, C, T, H, W)."""
        config = self.config
        frames = (latents[2] - 1) * config.frame_scale + 1
        return frames * latents[3] * latents[4] * config.scale**2 * config.decoder_features * item_bytes

    def fits_whole(self, plan: Plan, *, item_bytes: int) -> bool:
        """Whether the VAE may decode the clip in one go."""
        shapes = self.shapes(width=plan.width, height=plan.height, num_frames=plan.num_frames, dtype=plan.dtype)
        return self.widest_layer_bytes(shapes.latents, item_bytes=item_bytes) <= WHOLE_DECODE_BYTES

    def files(self) -> Mapping[str, Path]:
        eye = self.folder.path / "feature_extractor" / "preprocessor_config.json"
        extra = {eye.relative_to(self.folder.path).as_posix(): eye} if self.config.from_picture else {}
        return {**self.folder.files(self.components), **extra}

    def remarks(self, request: Request) -> tuple[str, ...]:
        if self.config.meanflow and (request.sampler or self.defaults.sampler) != "euler":
            raise InvalidRequest(
                f"sampler: {self.model} was distilled for straight steps; use euler, or a model that was not",
                field="sampler",
            )
        remarks = []
        if self.defaults.guidance == 1 and (request.guidance or 1) > 1:
            remarks.append(
                f"{self.model} was distilled to need no guidance; {request.guidance:g} doubles the time "
                "and may look overdone"
            )
        for field, text in texts_of(request):
            remarks += self.too_long(field, num_cut=self.tokenizer.num_cut(text))
            cut = num_glyphs_cut(text)
            if cut:
                remarks.append(f"what the {field} has in quotes is {cut} letters too long; its end is not written")
        return tuple(remarks)

    @cached_property
    def tokenizer(self) -> ChatTokenizer:
        return ChatTokenizer(self.folder.path / "tokenizer" / "tokenizer.json", max_tokens=self.max_tokens)


def even_sigmas(num_steps: int, *, shift: float) -> tuple[float, ...]:
    """Even steps from pure noise to the picture, bent by `shift` once; in float32, as the network was told them.

    The "euler" sampler's own times are others: they end before the picture and are bent twice.
    """
    times = np.linspace(1, 0, num_steps + 1)[:-1].astype(np.float32)
    return (*(shift * times / (1 + (shift - 1) * times)).tolist(), 0.0)
