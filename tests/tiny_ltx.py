"""LTX-2 models of a few thousand random weights in diffusers layout: every path of the real ones, in a blink."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch

from tests.tiny_models import WORDS

MAX_TOKENS = 16
REGISTERS = 8
CHANNELS, AUDIO_CHANNELS, MEL_BINS = 4, 2, 8
HIDDEN, LAYERS = 16, 2
CARD: dict[str, Any] = {
    "schema": 1,
    "title": "a random model for tests",
    "defaults": {"width": 64, "height": 64, "num_frames": 17, "fps": 8, "steps": 2},
    "max_sequence_length": MAX_TOKENS,
}
Generation = Literal["2.0", "2.3", "2.5"]


def save_tiny_ltx(
    folder: Path, *, generation: Generation, distilled: bool, upscaler: bool = False, num_blocks: int = 2, seed: int = 0
) -> Path:
    """Layout, class names and configuration keys of the hub's repositories; the video autoencoder is a true 8 x 32."""
    from diffusers import FlowMatchEulerDiscreteScheduler
    from diffusers.pipelines.ltx2 import LTX2LatentUpsamplerModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        networks = {
            "text_encoder": _text_encoder(generation),
            "connectors": _connectors(generation),
            "transformer": _transformer(generation, num_blocks=num_blocks),
            "vae": _vae(),
            "audio_vae": _audio_vae(),
            "vocoder": _vocoder(generation),
        }
        if upscaler:
            networks["latent_upsampler"] = LTX2LatentUpsamplerModel(
                in_channels=CHANNELS, mid_channels=32, num_blocks_per_stage=1
            )
    for name, network in networks.items():
        network.save_pretrained(folder / name)
    FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=not distilled,
        base_shift=0.95,
        max_shift=2.05,
        base_image_seq_len=1024,
        max_image_seq_len=4096,
        shift_terminal=None if distilled else 0.1,
    ).save_pretrained(folder / "scheduler")
    _save_tokenizer(folder / "tokenizer")
    (folder / "model_index.json").write_text(json.dumps(_index(networks)))
    (folder / "homereel.json").write_text(json.dumps(CARD))
    return folder


def _index(networks: dict[str, Any]) -> dict[str, Any]:
    index: dict[str, Any] = {"_class_name": "LTX2Pipeline"}
    for name, network in networks.items():
        if name != "latent_upsampler":  # no part of the pipeline, though it lies beside
            library = "transformers" if name == "text_encoder" else "diffusers"
            index[name] = ["ltx2" if name in ("connectors", "vocoder") else library, type(network).__name__]
    index["scheduler"] = ["diffusers", "FlowMatchEulerDiscreteScheduler"]
    index["tokenizer"] = ["transformers", "PreTrainedTokenizerFast"]
    return index | {name: [None, None] for name in ("processor", "prompt_enhancer", "duration_head")}


def _text_encoder(generation: Generation) -> Any:
    import transformers

    text = {
        "vocab_size": len(WORDS) + 4,
        "hidden_size": HIDDEN,
        "intermediate_size": 32,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 8,
        "max_position_embeddings": 64,
    }
    if generation == "2.5":
        parts = {"text_config": {**text, "global_head_dim": 8}}
        return transformers.Gemma4UnifiedForConditionalGeneration(transformers.Gemma4UnifiedConfig(**parts))
    sight = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "image_size": 28,
        "patch_size": 14,
    }
    config = transformers.Gemma3Config(text_config=text, vision_config=sight, mm_tokens_per_image=4)
    return transformers.Gemma3ForConditionalGeneration(config)


def _connectors(generation: Generation) -> Any:
    from diffusers.pipelines.ltx2 import LTX2TextConnectors

    apart = generation != "2.0"
    each: dict[str, Any] = {}
    for stream, size in (("video", 8), ("audio", 4 if apart else 8)):
        each |= {
            f"{stream}_connector_num_attention_heads": 2,
            f"{stream}_connector_attention_head_dim": size,
            f"{stream}_connector_num_layers": 1,
            f"{stream}_connector_num_learnable_registers": REGISTERS,
            f"{stream}_gated_attn": apart,
        }
    return LTX2TextConnectors(
        caption_channels=HIDDEN,
        text_proj_in_factor=LAYERS + 1,
        connector_rope_base_seq_len=32,
        rope_type="split",
        per_modality_projections=apart,
        video_hidden_dim=16,
        audio_hidden_dim=8,
        proj_bias=apart,
        **each,
    )


def _transformer(generation: Generation, *, num_blocks: int) -> Any:
    from diffusers import LTX2VideoTransformer3DModel

    newer = generation != "2.0"
    return LTX2VideoTransformer3DModel(
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        audio_in_channels=AUDIO_CHANNELS * MEL_BINS // 4,
        audio_out_channels=AUDIO_CHANNELS * MEL_BINS // 4,
        audio_num_attention_heads=2,
        audio_attention_head_dim=4,
        audio_cross_attention_dim=8,
        num_layers=num_blocks,
        caption_channels=HIDDEN,
        rope_type="split",
        gated_attn=newer,
        audio_gated_attn=newer,
        cross_attn_mod=newer,
        audio_cross_attn_mod=newer,
        use_prompt_embeddings=not newer,
        perturbed_attn=newer,
        ff_bias=generation != "2.5",
        use_keyframes_abs_pos_embedding=generation == "2.5",
    )


def _vae() -> Any:
    from diffusers import AutoencoderKLLTX2Video

    vae = AutoencoderKLLTX2Video(
        latent_channels=CHANNELS,
        block_out_channels=(8, 8, 16, 16),
        decoder_block_out_channels=(8, 16, 32),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1),
        decoder_causal=False,
        spatial_compression_ratio=32,
        temporal_compression_ratio=8,
    )
    with torch.no_grad():
        vae.latents_mean.copy_(torch.tensor([0.1, -0.2, 0.3, 0.0]))
        vae.latents_std.copy_(torch.tensor([1.5, 0.8, 1.1, 2.0]))
        vae.decoder.conv_out.conv.weight.mul_(4)  # so that random frames are not all grey
    return vae


def _audio_vae() -> Any:
    from diffusers import AutoencoderKLLTX2Audio

    audio_vae = AutoencoderKLLTX2Audio(
        base_channels=AUDIO_CHANNELS * MEL_BINS // 4,
        ch_mult=(1, 1, 2),
        num_res_blocks=1,
        latent_channels=AUDIO_CHANNELS,
        resolution=32,
        mel_bins=MEL_BINS,
    )
    with torch.no_grad():
        audio_vae.latents_mean.copy_(torch.tensor([0.2, 0.0, -0.1, 0.4]))
        audio_vae.latents_std.copy_(torch.tensor([1.2, 0.7, 1.0, 1.6]))
    return audio_vae


def _vocoder(generation: Generation) -> Any:
    """160 samples a mel frame make 16 kHz; the newer kind then makes 48 kHz of it."""
    from diffusers.pipelines.ltx2 import LTX2Vocoder, LTX2VocoderWithBWE

    small: dict[str, Any] = {"resnet_kernel_sizes": [3], "resnet_dilations": [[1, 3, 5]]}
    first = {
        "in_channels": 2 * MEL_BINS,
        "hidden_channels": 16,
        "upsample_kernel_sizes": [16, 20],
        "upsample_factors": [8, 20],
    }
    if generation == "2.0":
        return LTX2Vocoder(**first, **small, output_sampling_rate=16_000)
    second = {
        "bwe_in_channels": 2 * MEL_BINS,
        "bwe_hidden_channels": 16,
        "bwe_upsample_kernel_sizes": [12, 40],
        "bwe_upsample_factors": [6, 40],
        "num_mel_channels": MEL_BINS,
    }
    vocoder = LTX2VocoderWithBWE(**first, **small, **second, **{f"bwe_{name}": value for name, value in small.items()})
    with torch.no_grad():
        vocoder.mel_stft.mel_basis.uniform_()
        vocoder.mel_stft.stft_fn.forward_basis.normal_(std=0.1)
    return vocoder


def _save_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        padding_side="left",
    ).save_pretrained(folder)
