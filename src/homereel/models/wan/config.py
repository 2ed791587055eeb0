"""What Wan's configuration files say: which kind of Wan it is, and the figures that decide shapes. No torch.

Wan cuts a video twice: the VAE by `scale` in space and 4 in time, the transformer into patches of latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from homereel.core.errors import WeightsError
from homereel.core.model import Defaults
from homereel.weights.model_folder import ModelFolder, read_json

# Channels of the extra input that says which frames are known, in Wan's picture-to-video models.
MASK_CHANNELS = 4


@dataclass(frozen=True)
class WanConfig:
    """The few figures of the configuration files that decide what a Wan can do, and its shapes."""

    patch: tuple[int, int, int]
    features: int
    num_heads: int
    num_blocks: int
    feed_forward: int
    latent_channels: int
    max_positions: int
    scale: int
    frame_scale: int
    pixel_patch: int
    decoder_features: int
    first_frame: bool  # a known first frame is given by its own timestep (Wan2.2-TI2V)
    picture_channels: bool  # known frames come as channels beside the noise (I2V, FLF2V)
    sees_pictures: bool  # a CLIP encoder looks at them, too (Wan 2.1)
    sees_two: bool  # at the first and the last one (FLF2V)
    control: bool  # footage, masks and references steer it through blocks of their own (VACE)
    boundary: float | None  # below this share of noise the second expert takes over (Wan 2.2 A14B)
    num_side_blocks: int = 0  # those of VACE
    decoder_operations: float = 0.0  # additions and multiplications for a pixel of a frame

    @property
    def kind(self) -> str:
        """What it is called in messages."""
        kinds = {"control": self.control, "pictures": self.picture_channels, "first frame": self.first_frame}
        return next((kind for kind, holds in kinds.items() if holds), "text")


def read_wan_config(folder: ModelFolder) -> WanConfig:
    """Raises WeightsError if a figure is missing, or if this is a kind of Wan that is not known."""
    index, transformer, vae = folder.index(), folder.config("transformer"), folder.config("vae")
    try:
        latent_channels, in_channels = vae["z_dim"], transformer["in_channels"]
        config = WanConfig(
            patch=_triple(transformer["patch_size"]),
            features=transformer["num_attention_heads"] * transformer["attention_head_dim"],
            num_heads=transformer["num_attention_heads"],
            num_blocks=transformer["num_layers"],
            feed_forward=transformer["ffn_dim"],
            latent_channels=latent_channels,
            max_positions=transformer.get("rope_max_seq_len", 1024),
            scale=vae.get("scale_factor_spatial", 8),
            frame_scale=vae.get("scale_factor_temporal", 4),
            pixel_patch=vae.get("patch_size") or 1,
            decoder_features=vae.get("decoder_base_dim") or vae["base_dim"],
            first_frame=bool(index.get("expand_timesteps", False)),
            picture_channels=in_channels == 2 * latent_channels + MASK_CHANNELS,
            sees_pictures=transformer.get("image_dim") is not None,
            sees_two=transformer.get("pos_embed_seq_len") is not None,
            control=transformer.get("vace_layers") is not None,
            boundary=_boundary(index),
            num_side_blocks=len(transformer.get("vace_layers") or ()),
            decoder_operations=_decoder_operations(vae),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{folder.path} has no complete Wan configuration: {error}") from None
    if in_channels not in (latent_channels, 2 * latent_channels + MASK_CHANNELS):
        raise WeightsError(
            f"{folder.path} is a Wan with {in_channels} channels in; known are {latent_channels} (text) "
            f"and {2 * latent_channels + MASK_CHANNELS} (pictures)"
        )
    return config


def _decoder_operations(vae: dict[str, Any]) -> float:
    """Of the convolutions of residual blocks and of what doubles the picture between them; the rest is little."""
    base, patch = vae.get("decoder_base_dim") or vae["base_dim"], vae.get("patch_size") or 1
    widths = [base * factor for factor in (vae["dim_mult"][-1], *reversed(vae["dim_mult"]))]
    doubles = list(reversed(vae["temperal_downsample"]))
    total, flat = 0.0, not vae.get("is_residual", False)
    for level, width in enumerate(widths[1:]):
        last = level == len(widths) - 2
        share = 0.25 ** (len(widths) - 2 - level) / patch**2 / 2 ** sum(doubles[level:])
        before = widths[level] // 2 if flat and level else widths[level]
        convs = 27 * (before * width + width**2) + vae["num_res_blocks"] * 54 * width**2
        total += 2 * convs * share
        if not last:
            grown = share * 4 * (2 if doubles[level] else 1)
            total += 2 * grown * 9 * width * (width // 2 if flat else width) + 2 * share * 6 * width**2
    return total


def _boundary(index: dict[str, Any]) -> float | None:
    """Where the experts change, if there are two."""
    if index.get("transformer_2", [None])[0] is None:
        return None
    boundary = float(index["boundary_ratio"])
    if not 0 < boundary < 1:
        raise ValueError(f"boundary_ratio {boundary} is not between 0 and 1")
    return boundary


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
