"""What HunyuanVideo-1.5's configuration files say: which of its models it is, and the figures that decide shapes.

No torch. The VAE cuts a video by `scale` in space and `frame_scale` in time; the transformer takes latents as they
are, or in squares of `patch`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from homereel.core.errors import WeightsError
from homereel.core.model import Defaults
from homereel.weights.model_folder import ModelFolder, read_json

# Models made for 480p have a target side of 640 pixels, those for 720p one of 960.
_BETWEEN_480P_AND_720P = 800
# What a guider may ask for besides its scale, and the one value of each that is understood.
_PLAIN_GUIDER = {"guidance_rescale": 0, "start": 0, "stop": 1, "use_original_formulation": False}


@dataclass(frozen=True)
class HunyuanConfig:
    """The few figures of the configuration files that decide what a model can do, and its shapes."""

    patch: tuple[int, int, int]
    features: int
    num_heads: int
    num_blocks: int
    feed_forward: int
    latent_channels: int
    glyph_features: int
    image_features: int
    scale: int
    frame_scale: int
    decoder_features: int  # channels of the decoder at full size
    target_side: int
    from_picture: bool  # a first frame is needed, and a SigLIP encoder looks at it
    decoder_operations: float  # additions and multiplications for a pixel of a frame
    meanflow: bool  # the network is told where a step leads, too (few steps; Geng et al. 2025, arXiv 2505.13447)

    @property
    def size(self) -> str:
        """480p or 720p."""
        return "480p" if self.target_side < _BETWEEN_480P_AND_720P else "720p"


def read_hunyuan_config(folder: ModelFolder) -> HunyuanConfig:
    """Raises WeightsError if a figure is missing, or if the parts do not fit together."""
    index, transformer, vae = folder.index(), folder.config("transformer"), folder.config("vae")
    try:
        features = transformer["num_attention_heads"] * transformer["attention_head_dim"]
        side = transformer["patch_size"]
        config = HunyuanConfig(
            patch=(transformer["patch_size_t"], side, side),
            features=features,
            num_heads=transformer["num_attention_heads"],
            num_blocks=transformer["num_layers"],
            feed_forward=int(features * transformer["mlp_ratio"]),
            latent_channels=vae["latent_channels"],
            glyph_features=transformer["text_embed_2_dim"],
            image_features=transformer["image_embed_dim"],
            scale=vae["spatial_compression_ratio"],
            frame_scale=vae["temporal_compression_ratio"],
            decoder_features=vae["block_out_channels"][0],
            target_side=transformer["target_size"],
            decoder_operations=_decoder_operations(vae),
            from_picture=index.get("image_encoder", [None])[0] is not None,
            meanflow=bool(transformer.get("use_meanflow", False)),
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise WeightsError(f"{folder.path} has no complete HunyuanVideo-1.5 configuration: {error}") from None
    figures = (*config.patch, features, config.scale, config.frame_scale, config.latent_channels, config.target_side)
    if not all(type(figure) is int and figure > 0 for figure in figures):
        raise WeightsError(f"{folder.path} has a HunyuanVideo-1.5 configuration with figures that are no counts")
    if transformer.get("in_channels") != 2 * config.latent_channels + 1:
        raise WeightsError(
            f"{folder.path} is a HunyuanVideo-1.5 with {transformer.get('in_channels')} channels in; known are "
            f"{2 * config.latent_channels + 1}: noise, a known frame, and one that names it"
        )
    return config


def _decoder_operations(vae: dict[str, Any]) -> float:
    """Of the convolutions of residual blocks, and of those that double a picture's sides, later its frames, too."""
    widths, spatial = vae["block_out_channels"], vae["spatial_compression_ratio"].bit_length() - 1
    slow = vae["temporal_compression_ratio"].bit_length() - 1
    total = 0.0
    for level, width in enumerate(widths):
        share = 0.25 ** min(level, spatial) * 0.5 ** max(0, level - (spatial - slow))
        before = widths[min(level + 1, len(widths) - 1)]
        total += 2 * share * 27 * (before * width + (2 * vae["layers_per_block"] + 1) * width**2)
        if level < spatial:
            total += 2 * share * 27 * before * width
    return float(total)


def folder_defaults(folder: ModelFolder, defaults: Defaults) -> Defaults:
    """`defaults` with the shift of the folder's own scheduler and the guidance of its guider, where it has them."""
    scheduler = _read(folder.path / "scheduler" / "scheduler_config.json")
    guider = _read(folder.path / "guider" / "guider_config.json")
    guidance = guider.get("guidance_scale", defaults.guidance) if guider.get("enabled", True) else 1.0
    found = {"shift": scheduler.get("shift", defaults.shift), "guidance": guidance}
    for name, value in found.items():
        if not isinstance(value, (int, float)) or not 0 < value <= 100:
            raise WeightsError(f"{folder.path} names the {name} {value!r}; it must be a number above 0")
    for name, plain in _PLAIN_GUIDER.items():
        if guider.get(name, plain) != plain:
            raise WeightsError(f"{folder.path}: its guider asks for {name} {guider[name]!r}; known is {plain} only")
    return replace(defaults, shift=float(found["shift"]), guidance=max(1.0, float(found["guidance"])))


def _read(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
