"""HunyuanVideo-1.5 of random weights as the hub has it: every path of the real one, in a blink.

The tokenizer is a real one of Qwen's kind, taught the instruction and a few words, so that the instruction is as many
tokens long as in the real one.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import torch

WORDS = "a red green blue ball cube star bounces falls spins on the floor , not says with in street neon sign"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CARD = {"schema": 1, "defaults": {"width": 48, "height": 64, "num_frames": 5, "fps": 8, "steps": 3}}
# 9 channels in: 4 of noise, 4 of a known frame, one that names it.
TRANSFORMER: dict[str, Any] = {
    "in_channels": 9,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_layers": 3,
    "num_refiner_layers": 1,
    "mlp_ratio": 2.0,
    "text_embed_dim": 16,
    "text_embed_2_dim": 12,
    "image_embed_dim": 8,
    "rope_axes_dim": (4, 6, 6),
    "target_size": 64,
}
VAE: dict[str, Any] = {"latent_channels": 4, "block_out_channels": (4, 4, 8, 8, 8), "layers_per_block": 1}


def save_tiny_hunyuan(
    folder: Path, *, picture: bool = False, meanflow: bool = False, guidance: float = 6.0, shift: float = 5.0
) -> Path:
    """Text to video, or with `picture` first frame to video; `meanflow` as the step-distilled one has it."""
    from diffusers import (
        AutoencoderKLHunyuanVideo15,
        ClassifierFreeGuidance,
        FlowMatchEulerDiscreteScheduler,
        HunyuanVideo15ImageToVideoPipeline,
        HunyuanVideo15Pipeline,
        HunyuanVideo15Transformer3DModel,
    )
    from transformers import ByT5Tokenizer

    with torch.random.fork_rng():
        torch.manual_seed(5)
        task = "i2v" if picture else "t2v"
        parts: dict[str, Any] = {
            **_encoders(),
            "transformer": HunyuanVideo15Transformer3DModel(**TRANSFORMER, task_type=task, use_meanflow=meanflow),
            "vae": AutoencoderKLHunyuanVideo15(**VAE),
        }
        if picture:
            parts |= _eye()
    with torch.no_grad():
        parts["vae"].decoder.conv_out.conv.weight.mul_(8)  # so that random frames are not all grey
    pipeline: Any = HunyuanVideo15ImageToVideoPipeline if picture else HunyuanVideo15Pipeline
    pipeline(
        **parts,
        tokenizer=_tokenizer(),
        tokenizer_2=ByT5Tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=shift),
        guider=ClassifierFreeGuidance(guidance_scale=guidance),
    ).save_pretrained(folder)
    (folder / "homereel.json").write_text(json.dumps(CARD))
    return folder


def _encoders() -> dict[str, Any]:
    """Four layers of Qwen, since the network is told what the last but two says; ByT5 with its letters only."""
    from transformers import Qwen2_5_VLTextModel, T5Config, T5EncoderModel
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig

    qwen = Qwen2_5_VLTextConfig(
        vocab_size=1024,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=1,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]},
        bos_token_id=None,
        eos_token_id=None,
        initializer_range=0.2,
    )
    byt5 = T5Config(
        vocab_size=384, d_model=12, d_kv=6, d_ff=24, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu"
    )
    return {"text_encoder": Qwen2_5_VLTextModel(qwen), "text_encoder_2": T5EncoderModel(byt5)}


def _eye() -> dict[str, Any]:
    from transformers import SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel

    sees = SiglipVisionConfig(
        hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    return {
        "image_encoder": SiglipVisionModel(sees),
        "feature_extractor": SiglipImageProcessor(size={"height": 28, "width": 28}),
    }


def _tokenizer() -> Any:
    """Byte pairs, learnt until each word of the instruction is one token, as it is in Qwen's own vocabulary."""
    from diffusers import HunyuanVideo15Pipeline
    from tokenizers import pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer

    default = inspect.signature(HunyuanVideo15Pipeline._get_mllm_prompt_embeds).parameters["system_message"].default
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    learning = Qwen2Tokenizer()._tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        show_progress=False,
        special_tokens=marks,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    learning.train_from_iterator([default, f"system\nuser\nassistant\n {WORDS}"] * 4, trainer)
    learnt = json.loads(learning.to_str())["model"]
    return Qwen2Tokenizer(
        vocab=learnt["vocab"],
        merges=[tuple(pair) for pair in learnt["merges"]],
        additional_special_tokens=marks[1:],
        chat_template=CHAT_TEMPLATE,
        padding_side="right",
    )
