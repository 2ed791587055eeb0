"""What LTX-2's configuration files say: its generation, whether it was distilled, the figures behind shapes. No torch.

A video is cut into cells of 32 x 32 pixels and 8 frames, its sound into cells of 4 mel frames; each cell is a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from homereel.core.errors import WeightsError
from homereel.weights.model_folder import ModelFolder

UPSCALER = "latent_upsampler"
# The audio autoencoder's steps in time and in pitch, which no configuration names.
MEL_SCALE = 4
GEMMA_4 = ("gemma4_unified",)
GEMMA_3 = ("gemma3",)

Generation = Literal["2.0", "2.3", "2.5"]


@dataclass(frozen=True)
class Timetable:
    """How the model's scheduler lays out its times; `dynamic` bends them by the number of tokens."""

    dynamic: bool
    shift: float
    base_shift: float
    max_shift: float
    base_tokens: int
    max_tokens: int
    terminal: float | None  # where the last time but 0 lies


@dataclass(frozen=True)
class LtxConfig:
    """The few figures of the configuration files that decide what an LTX-2 can do, and its shapes."""

    generation: Generation
    distilled: bool
    upscaler: bool  # a second stage at twice the size
    timetable: Timetable
    channels: int
    features: int
    num_heads: int
    audio_features: int
    num_blocks: int
    skips: bool  # can leave out attention in a block, which one kind of guidance needs
    max_width: int
    max_height: int
    max_seconds: int
    scale: int
    frame_scale: int
    pixel_patch: int
    decoder_features: int  # of the decoder's last and widest layer
    decoder_operations: float  # additions and multiplications for a pixel of a frame
    audio_channels: int
    mel_bins: int
    mel_rate: float  # mel frames a second
    sound_rate: int
    text_features: int  # all layers of the text encoder side by side
    registers: int  # the text's length is a multiple of it

    @property
    def image_crf(self) -> int:
        """The H.264 quality at which the model saw given pictures when it was trained."""
        return 18 if self.generation == "2.5" else 33

    @property
    def crossed_times(self) -> bool:
        """Whether attention between sound and picture is told the time of the other side; in 2.0 it was its own."""
        return self.generation != "2.0"


def read_ltx_config(folder: ModelFolder) -> LtxConfig:
    """Raises WeightsError if a figure is missing, or if this is a kind of LTX that is not known."""
    transformer, vae = folder.config("transformer"), folder.config("vae")
    audio, connectors = folder.config("audio_vae"), folder.config("connectors")
    timetable = _timetable(folder)
    try:
        if transformer["patch_size"] != 1 or transformer["patch_size_t"] != 1 or vae.get("scaling_factor", 1) != 1:
            raise WeightsError(f"{folder.path} is an LTX with patches of latents or a scaling factor; neither is known")
        if _any(vae.get("decoder_inject_noise", False)):
            raise WeightsError(f"{folder.path} is an LTX whose decoder adds noise; two runs would differ")
        return LtxConfig(
            generation=_generation(folder, transformer),
            distilled=not timetable.dynamic,
            upscaler=_doubles(folder),
            timetable=timetable,
            channels=transformer["in_channels"],
            features=transformer["num_attention_heads"] * transformer["attention_head_dim"],
            num_heads=transformer["num_attention_heads"],
            audio_features=transformer["audio_num_attention_heads"] * transformer["audio_attention_head_dim"],
            num_blocks=transformer["num_layers"],
            skips=bool(transformer.get("perturbed_attn", False)),
            max_width=transformer.get("base_width", 2048),
            max_height=transformer.get("base_height", 2048),
            max_seconds=transformer.get("pos_embed_max_pos", 20),
            scale=_ratio(vae, "spatial_compression_ratio", patch=vae["patch_size"]),
            frame_scale=_ratio(vae, "temporal_compression_ratio", patch=vae["patch_size_t"]),
            pixel_patch=vae["patch_size"],
            decoder_features=vae["decoder_block_out_channels"][0] // vae["upsample_factor"][0],
            decoder_operations=_decoder_operations(vae),
            audio_channels=audio["latent_channels"],
            mel_bins=audio["mel_bins"],
            mel_rate=audio["sample_rate"] / audio["mel_hop_length"],
            sound_rate=folder.config("vocoder")["output_sampling_rate"],
            text_features=connectors["caption_channels"] * connectors["text_proj_in_factor"],
            registers=connectors.get("video_connector_num_learnable_registers") or 1,
        )
    except (KeyError, IndexError, TypeError, ValueError, ZeroDivisionError) as error:
        raise WeightsError(f"{folder.path} has no complete LTX-2 configuration: {error!r}") from None


def _decoder_operations(vae: dict[str, Any]) -> float:
    """Of the convolutions of residual blocks and of those between levels, each of which doubles time and sides."""
    widths, factors = vae["decoder_block_out_channels"], vae["upsample_factor"]
    layers, total = vae.get("decoder_layers_per_block") or (5,) * (len(widths) + 1), 0.0
    for level, width in enumerate((*(w // f for w, f in zip(widths, factors, strict=True)), widths[-1])):
        share = 0.125**level / vae["patch_size"] ** 2
        total += 2 * share * 54 * width**2 * layers[len(widths) - level]
        if level < len(widths):
            total += 2 * share / 8 * 27 * (width * factors[level]) * 8 * width
    return float(total)


def text_name(name: str) -> str | None:
    """What a tensor of the text encoder's files is called in the part that reads; None for eyes, ears and speech."""
    for prefix in ("model.language_model.", "language_model.model.", "language_model."):
        if name.startswith(prefix):
            rest = name.removeprefix(prefix)
            return None if rest.startswith("lm_head") else rest
    return None


def _generation(folder: ModelFolder, transformer: dict[str, Any]) -> Generation:
    """2.5 reads prompts with Gemma 4; 2.3 brought modulated attention to the text."""
    reader = folder.config("text_encoder").get("model_type")
    if reader in GEMMA_4:
        return "2.5"
    if reader not in GEMMA_3:
        known = ", ".join((*GEMMA_3, *GEMMA_4))
        raise WeightsError(f"{folder.path} reads prompts with {reader}; an LTX-2 does with {known}")
    return "2.3" if transformer.get("cross_attn_mod", False) else "2.0"


def _doubles(folder: ModelFolder) -> bool:
    """Whether there is a network that makes latents twice as wide and high, and not longer."""
    if not folder.has(f"{UPSCALER}/config.json"):
        return False
    config = folder.config(UPSCALER)
    twice = not config.get("use_rational_resampler", True) or config.get("rational_spatial_scale", 2.0) == 2
    return twice and bool(config.get("spatial_upsample", True)) and not config.get("temporal_upsample", False)


def _timetable(folder: ModelFolder) -> Timetable:
    """Left-out values are those of diffusers' FlowMatchEulerDiscreteScheduler.

    Distilled models are known by a scheduler that does not bend: their few times are taken as they are.
    """
    name = "scheduler/scheduler_config.json"
    config, path = folder.json(name), folder.path / name
    odd = [key for key in ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas") if config.get(key)]
    if odd or config.get("time_shift_type", "exponential") != "exponential" or config.get("invert_sigmas"):
        raise WeightsError(f"{path} asks for times that no LTX-2 has: {', '.join(odd) or 'time_shift_type'}")
    try:
        terminal = config.get("shift_terminal")
        table = Timetable(
            dynamic=bool(config.get("use_dynamic_shifting", False)),
            shift=float(config.get("shift", 1.0)),
            base_shift=float(config.get("base_shift", 0.5)),
            max_shift=float(config.get("max_shift", 1.15)),
            base_tokens=int(config.get("base_image_seq_len", 256)),
            max_tokens=int(config.get("max_image_seq_len", 4096)),
            terminal=float(terminal) if terminal else None,
        )
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{path} holds a value of the wrong kind: {error}") from None
    bounded = max(abs(table.base_shift), abs(table.max_shift)) <= 20 and 0 <= (table.terminal or 0) < 1
    if not (bounded and 0 < table.shift <= 100 and table.max_tokens > table.base_tokens):
        raise WeightsError(f"{path} lays out no usable times: {table}")
    return table


def _any(value: Any) -> bool:
    return any(value) if isinstance(value, (list, tuple)) else bool(value)


def _ratio(vae: dict[str, Any], name: str, *, patch: int) -> int:
    """Pixels a latent cell, named by the configuration or counted from the encoder's steps."""
    return int(vae.get(name) or patch * 2 ** sum(vae["spatio_temporal_scaling"]))
