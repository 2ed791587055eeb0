"""Models of a few thousand random weights in diffusers layout: every path of a real Wan, in a blink."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

WORDS = [
    *("a", "red", "green", "blue", "ball", "cube", "star", "bounces", "falls", "spins"),
    *("on", "the", "floor", ",", "not"),
]
MAX_TOKENS = 12
COMPONENTS = {
    "text_encoder": ["transformers", "UMT5EncoderModel"],
    "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
    "transformer": ["diffusers", "WanTransformer3DModel"],
    "transformer_2": [None, None],
    "vae": ["diffusers", "AutoencoderKLWan"],
    "scheduler": ["diffusers", "UniPCMultistepScheduler"],
}
CARD: dict[str, Any] = {
    "schema": 1,
    "title": "a random model for tests",
    "defaults": {
        "width": 32,
        "height": 32,
        "num_frames": 5,
        "fps": 8,
        "steps": 3,
        "guidance": 3.0,
        "shift": 2.0,
        "sampler": "unipc",
    },
    "max_sequence_length": MAX_TOKENS,
}


TRANSFORMER: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": 16,
    "freq_dim": 16,
    "ffn_dim": 32,
    "num_layers": 2,
    "rope_max_seq_len": 16,
}
# What differs from text-to-video: 12 channels are 4 of noise, 4 that name the known frames, 4 of their latents.
_PICTURES = {"in_channels": 12}
_SEEN = {**_PICTURES, "image_dim": 16, "added_kv_proj_dim": 24}
KINDS: dict[str, dict[str, Any]] = {
    "i2v": _SEEN,
    "flf2v": {**_SEEN, "pos_embed_seq_len": 10},
    "i2v-a14b": _PICTURES,
    "t2v-a14b": {},
    "vace": {"vace_layers": [0, 1], "vace_in_channels": 2 * 4 + 8 * 8},
}
BOUNDARY = 0.8


def save_tiny_kind(folder: Path, kind: str) -> Path:
    """One of the other Wans, by what its id ends in."""
    from diffusers import WanTransformer3DModel, WanVACETransformer3DModel

    pipeline = {"vace": "WanVACEPipeline", "t2v-a14b": "WanPipeline"}.get(kind, "WanImageToVideoPipeline")
    save_tiny_model(folder, first_frame=False)
    index = {**json.loads((folder / "model_index.json").read_text()), "_class_name": pipeline}
    network: Any = WanVACETransformer3DModel if kind == "vace" else WanTransformer3DModel
    experts = ["transformer", "transformer_2"] if kind.endswith("a14b") else ["transformer"]
    for seed, name in enumerate(experts):
        with torch.random.fork_rng():
            torch.manual_seed(seed + 3)
            made = network(**{**TRANSFORMER, **KINDS[kind]})
            for parameter in made.parameters():  # some start at zero, which would hide what they do
                torch.nn.init.normal_(parameter, std=0.2) if not parameter.any() else None
            made.save_pretrained(folder / name)
        index[name] = ["diffusers", type(made).__name__]
    index["boundary_ratio"] = BOUNDARY if len(experts) == 2 else None
    if "image_dim" in KINDS[kind]:
        index |= {"image_encoder": ["transformers", "CLIPVisionModel"]}
        index |= {"image_processor": ["transformers", "CLIPImageProcessor"]}
        _save_eye(folder)
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def _save_eye(folder: Path) -> None:
    from safetensors.torch import load_file, save_file
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    with torch.random.fork_rng():
        torch.manual_seed(5)
        config = CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=28,
            patch_size=14,
        )
        CLIPVisionModel(config).save_pretrained(folder / "image_encoder")
    file = folder / "image_encoder" / "model.safetensors"
    # The hub's files name tensors as older releases of transformers did.
    save_file({f"vision_model.{name}": tensor for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}).save_pretrained(
        folder / "image_processor"
    )


def save_tiny_model(folder: Path, *, first_frame: bool, seed: int = 0) -> Path:
    """A Wan as text-to-video (the VAE of 2.1), or one that takes a first frame (the VAE of 2.2)."""
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        transformer = WanTransformer3DModel(**TRANSFORMER)
        vae = AutoencoderKLWan(**_vae_config(first_frame))
        text_encoder = UMT5EncoderModel(
            UMT5Config(
                vocab_size=len(WORDS) + 3,
                d_model=16,
                d_kv=8,
                d_ff=32,
                num_layers=1,
                num_heads=2,
                relative_attention_num_buckets=8,
            )
        )
    with torch.no_grad():
        vae.decoder.conv_out.weight.mul_(4)  # so that random frames are not all grey
    transformer.save_pretrained(folder / "transformer")
    vae.save_pretrained(folder / "vae")
    text_encoder.save_pretrained(folder / "text_encoder")
    UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=2.0).save_pretrained(
        folder / "scheduler"
    )
    _save_tokenizer(folder / "tokenizer")
    index = {"_class_name": "WanPipeline", "expand_timesteps": first_frame, **COMPONENTS}
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "homereel.json").write_text(json.dumps(CARD))
    return folder


def _vae_config(first_frame: bool) -> dict[str, Any]:
    common = {
        "base_dim": 8,
        "z_dim": 4,
        "num_res_blocks": 1,
        "temperal_downsample": [True, True],
        "latents_mean": [0.1, -0.2, 0.3, 0.0],
        "latents_std": [1.5, 0.8, 1.1, 2.0],
    }
    if first_frame:
        patched = {"dim_mult": [1, 2, 2], "is_residual": True, "patch_size": 2}
        return {**common, **patched, "in_channels": 12, "out_channels": 12}
    return {**common, "dim_mult": [1, 1, 1, 1], "temperal_downsample": [False, True, True]}


def _save_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
