"""What can be said of a Wan from its files alone: what it takes, its grid, its standard clip, shapes and bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from homereel.core.errors import InvalidRequest
from homereel.core.gpu import has_cuda_gpu
from homereel.core.inputs import OPTIONS
from homereel.core.model import Blocks, Grid, Shapes, Stage
from homereel.core.plan import Plan
from homereel.core.request import Request
from homereel.models.residual_ratios import residual_ratios
from homereel.models.shared_facts import ITEM_BYTES, FolderFacts, texts_of
from homereel.models.text import Tokenizer
from homereel.models.wan.config import WanConfig

# A clip whose widest layer is larger is encoded group by group, as diffusers does, to bound memory.
WHOLE_ENCODE_BYTES = 256 * 1024**2
# So many bytes of the decoder's last layer are made at once, as far as they can be cut: about what a cache holds.
PIECE_BYTES = 16 * 1024**2
# Latent frames, besides a first one, of a clip that is gone on from which the network sees: they tell how things move.
CARRIED = 2
# The decoder's peak in multiples of its widest layer, measured on the CPU from 17 x 96 x 96 to 49 x 256 x 256.
LAYERS_AT_ONCE = 11
# The same for a clip that is decoded in one piece, of which nothing is held for a next one.
LAYERS_OF_ONE_PIECE = 8


@dataclass(frozen=True)
class WanFacts(FolderFacts):
    """A Wan model known by its files only; see `ModelFacts` for what each part means."""

    config: WanConfig
    understanding_models: tuple[str, ...]  # whom to name when a word is not known

    name = "wan"
    makes_sound = False
    told_pace = False
    decoders = frozenset({"vae"})

    @property
    def components(self) -> tuple[str, ...]:
        second = ("transformer_2",) if self.config.boundary is not None else ()
        eye = ("image_encoder",) if self.config.sees_pictures else ()
        return ("text_encoder", *eye, "transformer", *second, "vae")

    @property
    def inputs(self) -> frozenset[str]:
        config = self.config
        if config.control:
            return frozenset({"text", *OPTIONS})
        if config.picture_channels:
            takes_last = config.sees_two or not config.sees_pictures
            return frozenset({"text", "image", "refine", *(["last"] if takes_last else [])})
        known = ["image", "extend"] if config.first_frame else []
        return frozenset({"text", "video", "strength", "refine", *known})

    @property
    def required(self) -> frozenset[str]:
        if not self.config.picture_channels:
            return frozenset()
        return frozenset({"image", "last"} if self.config.sees_two else {"image"})

    @property
    def grid(self) -> Grid:
        _, rows, columns = self.config.patch
        longest = self.config.max_positions
        return Grid(
            width_multiple=self.config.scale * columns,
            height_multiple=self.config.scale * rows,
            frame_multiple=self.config.frame_scale,
            max_width=self.config.scale * columns * longest,
            max_height=self.config.scale * rows * longest,
            max_frames=self.config.frame_scale * (longest - 1) + 1,
        )

    @property
    def block_facts(self) -> Blocks:
        config = self.config
        return Blocks(
            layout="wan",
            num_blocks=config.num_blocks,
            num_heads=config.num_heads,
            head_size=config.features // config.num_heads,
            residual_ratios=residual_ratios(self.model),
            num_side_blocks=config.num_side_blocks,
        )

    def shapes(self, *, width: int, height: int, num_frames: int, dtype: str) -> Shapes:
        config = self.config
        frames = (num_frames - 1) // config.frame_scale + 1
        latents = (1, config.latent_channels, frames, height // config.scale, width // config.scale)
        num_tokens = math.prod(latents[2:]) // math.prod(config.patch)
        item = ITEM_BYTES[dtype]
        piece = min(frames, 1 + self.latents_at_once(width=width, height=height, item_bytes=item))
        widest = self.widest_layer_bytes((*latents[:2], piece, *latents[3:]), item_bytes=item)
        at_once = LAYERS_AT_ONCE if piece < frames else LAYERS_OF_ONE_PIECE
        decode_bytes = at_once * widest + num_frames * height * width * 3
        return Shapes(
            latents=latents,
            num_tokens=num_tokens,
            denoise_bytes=num_tokens * (8 * config.features + 2 * config.feed_forward) * item
            + 8 * math.prod(latents) * 4,
            decode_bytes=decode_bytes,
            tile_bytes=decode_bytes + 2 * num_frames * height * width * 3 * item,
            text_tokens=self.max_tokens,
            decode_operations=config.decoder_operations * num_frames * height * width,
        )

    def stages(self, plan: Plan) -> tuple[Stage, ...]:
        shapes = self.shapes(width=plan.width, height=plan.height, num_frames=plan.num_frames, dtype=plan.dtype)
        batch, channels, frames, *size = shapes.latents
        references = plan.num_references if self.config.control else 0
        kept = 0 if plan.strength is None else plan.steps - max(1, int(plan.steps * plan.strength))
        frames = frames + references - self.frames_behind(plan)
        return (Stage(noise=((batch, channels, frames, *size),), num_steps=plan.steps, first_step=kept),)

    def frames_behind(self, plan: Plan) -> int:
        """Latent frames of a clip that is gone on from which lie before what the network sees of it."""
        kept = 0 if plan.extend_from is None else (plan.extend_from - 1) // self.config.frame_scale + 1
        return max(0, kept - 1 - CARRIED)

    def latents_at_once(self, *, width: int, height: int, item_bytes: int) -> int:
        """How many latent frames the decoder takes together."""
        size = (height // self.config.scale, width // self.config.scale)
        two, one = (self.widest_layer_bytes((1, 1, frames, *size), item_bytes=item_bytes) for frames in (2, 1))
        fitting = PIECE_BYTES // (two - one)
        # Fours and twos go well with filtering in time.
        return max(1, fitting // 4 * 4 if fitting > 4 else fitting // 2 * 2)

    def widest_layer_bytes(self, latents: Sequence[int], *, item_bytes: int) -> int:
        """Bytes of the decoder's widest layer for a whole clip whose latents have this shape (B, C, T, H, W)."""
        config = self.config
        side = config.scale // config.pixel_patch
        frames = (latents[2] - 1) * config.frame_scale + 1
        return frames * latents[3] * latents[4] * side**2 * config.decoder_features * item_bytes

    def weight_bytes(self, component: str, *, dtype: str) -> int:
        """As it is loaded: layers that files keep in int8 stay so where a GPU multiplies them."""
        item_bytes = ITEM_BYTES[dtype]
        kept_bytes = 1 if has_cuda_gpu() else item_bytes
        tensors = self.tensors(component).values()
        return sum(math.prod(each.shape) * (kept_bytes if each.dtype == "I8" else item_bytes) for each in tensors)

    def files(self) -> Mapping[str, Path]:
        return self.folder.files(self.components)

    def remarks(self, request: Request) -> tuple[str, ...]:
        remarks = []
        if request.mask is not None and request.video is None:
            raise InvalidRequest("mask: it says which part of the footage is made anew; give --video", field="mask")
        for field, text in texts_of(request):
            unknown = self.tokenizer.unknown_words(text)
            if unknown:
                words = ", ".join(f'"{word}"' for word in unknown[:8]) + (", …" if len(unknown) > 8 else "")
                remarks.append(
                    f"{self.model} does not know the {field}'s {words}; models that would understand: "
                    + ", ".join(self.understanding_models[:4])
                )
            remarks += self.too_long(field, num_cut=self.tokenizer.num_cut(text))
        return tuple(remarks)

    def vocabulary(self) -> tuple[str, ...]:
        return self.tokenizer.vocabulary()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer(self.folder.path / "tokenizer" / "tokenizer.json", max_tokens=self.max_tokens)
