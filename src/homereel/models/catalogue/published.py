"""What the configuration files of published models say, as far as plans need it, and how many weights each part has.

A model that is not here yet is planned from this; once it is here, from its own files. Weights are counted in the
files of one model of each size; they are the same in its sisters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]
_B = 1_000_000_000


@dataclass(frozen=True)
class Published:
    """`files` by their path within the model; `weights` counts numbers a component."""

    files: Mapping[str, Json]
    weights: Mapping[str, int]


_UMT5, _WAN_VAE, _CLIP = 5_680_910_336, 126_892_531, 632_076_800
_VAE_21 = {
    "z_dim": 16,
    "base_dim": 96,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "temperal_downsample": [False, True, True],
}
_VAE_22 = {
    **_VAE_21,
    "z_dim": 48,
    "base_dim": 160,
    "decoder_base_dim": 256,
    "is_residual": True,
    "patch_size": 2,
    "scale_factor_spatial": 16,
}
_WAN_1B = {
    "patch_size": [1, 2, 2],
    "num_attention_heads": 12,
    "attention_head_dim": 128,
    "num_layers": 30,
    "ffn_dim": 8960,
    "in_channels": 16,
}
_WAN_14B = {**_WAN_1B, "num_attention_heads": 40, "num_layers": 40, "ffn_dim": 13824}
_WAN_5B = {**_WAN_1B, "num_attention_heads": 24, "ffn_dim": 14336, "in_channels": 48}
_PICTURED = {"in_channels": 36}
_SEEING = {**_PICTURED, "image_dim": 1280, "added_kv_proj_dim": 5120}


def _wan(
    transformer: Json,
    weights: int,
    *,
    vae: Json = _VAE_21,
    vae_weights: int = _WAN_VAE,
    boundary: float | None = None,
    pipeline: str = "WanPipeline",
    **index: Any,
) -> Published:
    experts = ("transformer", "transformer_2") if boundary is not None else ("transformer",)
    eye = {"image_encoder": _CLIP} if transformer.get("image_dim") else {}
    model_index = {"_class_name": pipeline, **{expert: ["diffusers", ""] for expert in experts}, **index}
    return Published(
        files={
            "model_index.json": model_index | ({} if boundary is None else {"boundary_ratio": boundary}),
            **{f"{expert}/config.json": transformer for expert in experts},
            "vae/config.json": vae,
        },
        weights={"text_encoder": _UMT5, **eye, **dict.fromkeys(experts, weights), "vae": vae_weights},
    )


_T2V_1B = _wan(_WAN_1B, 1_418_996_800)
_T2V_14B = _wan(_WAN_14B, 14_288_491_584)
_I2V_14B = _wan({**_WAN_14B, **_SEEING}, 16_394_878_784)
_I2V_A14B = _wan({**_WAN_14B, **_PICTURED}, 14_288_901_184, boundary=0.9)


def _hunyuan(*, side: int, from_picture: bool, meanflow: bool = False) -> Published:
    transformer = {
        "num_attention_heads": 16,
        "attention_head_dim": 128,
        "num_layers": 54,
        "mlp_ratio": 4.0,
        "patch_size": 1,
        "patch_size_t": 1,
        "in_channels": 65,
        "text_embed_dim": 3584,
        "text_embed_2_dim": 1472,
        "image_embed_dim": 1152,
        "target_size": side,
        "use_meanflow": meanflow,
    }
    vae = {
        "latent_channels": 32,
        "block_out_channels": [128, 256, 512, 1024, 1024],
        "layers_per_block": 2,
        "spatial_compression_ratio": 16,
        "temporal_compression_ratio": 4,
    }
    eye = {"image_encoder": 428_225_600} if from_picture else {}
    index = {"_class_name": "HunyuanVideo15Pipeline", **{part: ["transformers", ""] for part in eye}}
    return Published(
        files={"model_index.json": index, "transformer/config.json": transformer, "vae/config.json": vae},
        weights={
            "text_encoder": 7_070_619_136,
            "text_encoder_2": 219_314_944,
            **eye,
            "transformer": 8_326_608_160,
            "vae": 1_260_634_115,
        },
    )


def _ltx(*, distilled: bool, generation: str, transformer: float, connectors: float, decoders: float) -> Published:
    newer = generation != "2.0"
    network = {
        "patch_size": 1,
        "patch_size_t": 1,
        "in_channels": 128,
        "num_attention_heads": 32,
        "attention_head_dim": 128,
        "audio_num_attention_heads": 32,
        "audio_attention_head_dim": 64,
        "num_layers": 48,
        "cross_attn_mod": newer,
        "perturbed_attn": newer,
    }
    vae = {
        "patch_size": 4,
        "patch_size_t": 1,
        "decoder_block_out_channels": [256, 512, 1024],
        "decoder_layers_per_block": [5, 5, 5, 5],
        "upsample_factor": [2, 2, 2],
        "spatial_compression_ratio": 32,
        "temporal_compression_ratio": 8,
    }
    audio = {"latent_channels": 8, "mel_bins": 64, "sample_rate": 16000, "mel_hop_length": 160}
    words = {"caption_channels": 3840, "text_proj_in_factor": 49, "video_connector_num_learnable_registers": 128}
    scheduler = {
        "use_dynamic_shifting": not distilled,
        "base_shift": 0.95,
        "max_shift": 2.05,
        "base_image_seq_len": 1024,
        "shift_terminal": None if distilled else 0.1,
    }
    return Published(
        files={
            "model_index.json": {"_class_name": "LTX2Pipeline"},
            "transformer/config.json": network,
            "vae/config.json": vae,
            "audio_vae/config.json": audio,
            "connectors/config.json": words,
            "vocoder/config.json": {"output_sampling_rate": 48000 if newer else 24000},
            "text_encoder/config.json": {"model_type": "gemma4_unified" if generation == "2.5" else "gemma3"},
            "scheduler/scheduler_config.json": scheduler,
            **({"latent_upsampler/config.json": {"use_rational_resampler": False}} if distilled else {}),
        },
        weights={
            "text_encoder": round(12.2 * _B),
            "connectors": round(connectors * _B),
            "transformer": round(transformer * _B),
            "latent_upsampler": round(0.5 * _B),
            "vae": round(decoders * _B),
            "audio_vae": 53_000_000,
            "vocoder": 55_000_000,
        },
    )


_SKYREELS: dict[str, Any] = {"pipeline": "SkyReelsV2DiffusionForcingPipeline"}
_HUNYUAN_SIDES = {"480p": 640, "720p": 960}

PUBLISHED: Mapping[str, Published] = {
    "wan2.1-t2v-1.3b": _T2V_1B,
    "wan2.1-t2v-14b": _T2V_14B,
    "wan2.1-i2v-14b-480p": _I2V_14B,
    "wan2.1-i2v-14b-720p": _I2V_14B,
    "wan2.1-flf2v-14b": _wan({**_WAN_14B, **_SEEING, "pos_embed_seq_len": 514}, 16_395_537_000),
    "wan2.1-vace-1.3b": _wan({**_WAN_1B, "vace_layers": list(range(0, 30, 2))}, 2_153_972_032),
    "wan2.1-vace-14b": _wan({**_WAN_14B, "vace_layers": list(range(0, 40, 5))}, 17_337_592_896),
    "wan2.2-t2v-a14b": _wan(_WAN_14B, 14_288_491_584, boundary=0.875),
    "wan2.2-i2v-a14b": _I2V_A14B,
    "wan2.2-ti2v-5b": _wan(_WAN_5B, 4_999_787_712, vae=_VAE_22, vae_weights=704_688_668, expand_timesteps=True),
    "turbowan2.1-t2v-1.3b-480p": _T2V_1B,
    "turbowan2.1-t2v-14b-480p": _T2V_14B,
    "turbowan2.1-t2v-14b-720p": _T2V_14B,
    "turbowan2.2-i2v-a14b-720p": _I2V_A14B,
    "skyreels-v2-df-1.3b-540p": _wan(_WAN_1B, 1_418_996_800, **_SKYREELS),
    "skyreels-v2-df-14b-540p": _wan(_WAN_14B, 14_288_491_584, **_SKYREELS),
    "skyreels-v2-df-14b-720p": _wan(_WAN_14B, 14_288_491_584, **_SKYREELS),
    **{
        f"hunyuanvideo-1.5-{size}-{task}{ending}": _hunyuan(
            side=side, from_picture=task == "i2v", meanflow=ending == "-step-distilled"
        )
        for size, side in _HUNYUAN_SIDES.items()
        for task in ("t2v", "i2v")
        for ending in ("", "-distilled", "-step-distilled")
    },
    "ltx-2.5": _ltx(distilled=True, generation="2.5", transformer=19.0, connectors=3.15, decoders=0.9),
    "ltx-2.3": _ltx(distilled=False, generation="2.3", transformer=19.0, connectors=3.15, decoders=0.8),
    "ltx-2-19b": _ltx(distilled=False, generation="2.0", transformer=18.9, connectors=1.45, decoders=1.25),
    "ltx-2-19b-distilled": _ltx(distilled=True, generation="2.0", transformer=18.9, connectors=1.45, decoders=1.25),
}
