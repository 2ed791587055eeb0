"""What Wan's configuration files say of a model: grid, standard clip, shapes and bytes. No torch, no weights.

Wan cuts a video twice: the VAE by `scale` in space and 4 in time, the transformer into patches of latents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from homereel.core.errors import WeightsError
from homereel.core.model import Defaults, Grid, Shapes
from homereel.core.request import Request
from homereel.models.card import FolderCard
from homereel.models.text import Tokenizer
from homereel.weights.model_folder import ModelFolder, read_json

ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# A clip whose widest layer is larger is decoded group by group, as diffusers does, to bound memory.
WHOLE_DECODE_BYTES = 256 * 1024**2
# The decoder's peak in multiples of its widest layer, measured on the CPU from 17 x 96 x 96 to 49 x 256 x 256.
LAYERS_AT_ONCE = 11
COMPONENTS = ("text_encoder", "transformer", "vae")


@dataclass(frozen=True)
class WanConfig:
    """The few figures of the three config.json files that decide shapes."""

    patch: tuple[int, int, int]
    features: int
    feed_forward: int
    latent_channels: int
    max_positions: int
    scale: int
    frame_scale: int
    pixel_patch: int
    decoder_features: int
    first_frame: bool  # a known first frame is given by its own timestep (Wan2.2-TI2V)


def read_wan_config(folder: ModelFolder) -> WanConfig:
    """Raises WeightsError if a figure is missing, or if this is a kind of Wan that is not supported."""
    index, transformer, vae = folder.index(), folder.config("transformer"), folder.config("vae")
    try:
        config = WanConfig(
            patch=_triple(transformer["patch_size"]),
            features=transformer["num_attention_heads"] * transformer["attention_head_dim"],
            feed_forward=transformer["ffn_dim"],
            latent_channels=vae["z_dim"],
            max_positions=transformer.get("rope_max_seq_len", 1024),
            scale=vae.get("scale_factor_spatial", 8),
            frame_scale=vae.get("scale_factor_temporal", 4),
            pixel_patch=vae.get("patch_size") or 1,
            decoder_features=vae.get("decoder_base_dim") or vae["base_dim"],
            first_frame=bool(index.get("expand_timesteps", False)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{folder.path} has no complete Wan configuration: {error}") from None
    if index.get("transformer_2", [None])[0] is not None or transformer["in_channels"] != config.latent_channels:
        raise WeightsError(
            f"{folder.path} is a Wan of a kind that is not supported yet (two experts, or a picture as extra "
            "channels); use a text-to-video Wan or Wan2.2-TI2V-5B"
        )
    return config


@dataclass(frozen=True)
class WanFacts:
    """A Wan model known by its files only; see `ModelFacts` for what each part means."""

    model: str
    folder: ModelFolder
    card: FolderCard
    config: WanConfig
    base_defaults: Defaults
    base_max_tokens: int
    understanding_models: tuple[str, ...]  # whom to name when a word is not known

    name = "wan"
    components = COMPONENTS

    @property
    def inputs(self) -> frozenset[str]:
        return frozenset({"text", "image"} if self.config.first_frame else {"text"})

    @property
    def defaults(self) -> Defaults:
        return self.card.defaults.over(self.base_defaults)

    @property
    def max_tokens(self) -> int:
        """The text's length in tokens, padding included."""
        return self.card.max_sequence_length or self.base_max_tokens

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

    def shapes(self, *, width: int, height: int, num_frames: int, dtype: str) -> Shapes:
        config = self.config
        frames = (num_frames - 1) // config.frame_scale + 1
        latents = (1, config.latent_channels, frames, height // config.scale, width // config.scale)
        num_tokens = math.prod(latents[2:]) // math.prod(config.patch)
        item = ITEM_BYTES[dtype]
        widest = self.widest_layer_bytes(latents, item_bytes=item)
        at_once = 1 if widest <= WHOLE_DECODE_BYTES else min(1, 2 / frames)
        return Shapes(
            latents=latents,
            num_tokens=num_tokens,
            denoise_bytes=num_tokens * (8 * config.features + 2 * config.feed_forward) * item
            + 8 * math.prod(latents) * 4,
            decode_bytes=round(LAYERS_AT_ONCE * widest * at_once) + num_frames * height * width * 3 * 6,
        )

    def widest_layer_bytes(self, latents: Sequence[int], *, item_bytes: int) -> int:
        """Bytes of the decoder's widest layer for a whole clip whose latents have this shape (B, C, T, H, W)."""
        config = self.config
        side = config.scale // config.pixel_patch
        frames = (latents[2] - 1) * config.frame_scale + 1
        return frames * latents[3] * latents[4] * side**2 * config.decoder_features * item_bytes

    def weight_bytes(self, component: str, *, dtype: str) -> int:
        tensors = self.folder.tensors(component).values()
        return sum(math.prod(tensor.shape) for tensor in tensors) * ITEM_BYTES[dtype]

    def files(self) -> Mapping[str, Path]:
        return self.folder.files(self.components)

    def remarks(self, request: Request) -> tuple[str, ...]:
        remarks = []
        for field, text in (("prompt", request.prompt), ("negative prompt", request.negative_prompt)):
            unknown = self.tokenizer.unknown_words(text)
            if unknown:
                words = ", ".join(f'"{word}"' for word in unknown[:8]) + (", …" if len(unknown) > 8 else "")
                remarks.append(
                    f"{self.model} does not know the {field}'s {words}; models that would understand: "
                    + ", ".join(self.understanding_models)
                )
            cut = self.tokenizer.num_cut(text)
            if cut:
                remarks.append(f"the {field} is {cut} tokens too long for {self.model}; its end is not heeded")
        return tuple(remarks)

    def vocabulary(self) -> tuple[str, ...]:
        return self.tokenizer.vocabulary()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer(self.folder.path / "tokenizer" / "tokenizer.json", max_tokens=self.max_tokens)


def scheduler_defaults(folder: ModelFolder, defaults: Defaults) -> Defaults:
    """`defaults` with the shift and the sampler that the model's own scheduler names, if it names any."""
    path = folder.path / "scheduler" / "scheduler_config.json"
    if not path.is_file():
        return defaults
    config: dict[str, Any] = read_json(path)
    unipc = "UniPC" in str(config.get("_class_name", ""))
    shift = config.get("flow_shift" if unipc else "shift", defaults.shift)
    if not isinstance(shift, (int, float)) or not 0 < shift <= 100:
        raise WeightsError(f"{path} names the shift {shift!r}; it must be a number above 0")
    changed = {"shift": float(shift), "sampler": "unipc" if unipc else "euler"}
    return Defaults(**{**defaults.__dict__, **changed})


def _triple(value: Any) -> tuple[int, int, int]:
    frames, rows, columns = value
    return int(frames), int(rows), int(columns)
