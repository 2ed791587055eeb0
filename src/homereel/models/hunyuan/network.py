"""Loads the parts of a HunyuanVideo-1.5, and mends what files lack or diffusers does at a cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from homereel.models.hunyuan import vae as hunyuan_vae
from homereel.weights.load import load_network
from homereel.weights.model_folder import ModelFolder


def load_part(folder: ModelFolder, component: str, *, device: str, dtype: str) -> nn.Module:
    """One component, ready to compute; see `Family.load`. Raises WeightsError."""
    build, keep, tied = _builders(folder.config(component))[component]
    network = load_network(
        build,
        folder=folder,
        component=component,
        device=device,
        dtype=dtype,
        keep_float32=keep,
        tied=tied,
        names=_name_in_network,
    )
    if component == "transformer":
        return _prepared_transformer(network)
    if component == "vae":
        return hunyuan_vae.without_masks(network)
    return _with_positions(network, component=component, device=device)


class ExactTimes(nn.Module):
    """diffusers' embedding of time, whose names it keeps, for times in float32 whatever the weights are.

    diffusers rounds times to the weights' format first; in bfloat16 they would be four apart.
    """

    def __init__(self, embedding: Any) -> None:
        super().__init__()
        self.time_proj, self.timestep_embedder = embedding.time_proj, embedding.timestep_embedder
        self.time_proj_r, self.timestep_embedder_r = embedding.time_proj_r, embedding.timestep_embedder_r

    def forward(self, timestep: Tensor, timestep_r: Tensor | None = None) -> Tensor:
        here = _embedded(timestep, self.time_proj, self.timestep_embedder)
        if timestep_r is None:
            return here
        return here + _embedded(timestep_r, self.time_proj_r, self.timestep_embedder_r)


def _embedded(time: Tensor, waves: Any, layers: Any) -> Tensor:
    embedded: Tensor = layers(waves(time).to(layers.linear_1.weight.dtype))
    return embedded


def _prepared_transformer(network: Any) -> nn.Module:
    from homereel.models.hunyuan import attention as hunyuan_attention

    network.time_embed = ExactTimes(network.time_embed)
    return hunyuan_attention.without_masks(network)


_Builder = tuple[Callable[[], nn.Module], tuple[str, ...], dict[str, str]]


def _builders(config: dict[str, Any]) -> dict[str, _Builder]:
    """How each component is made: its class, what stays in float32, which tensors are one and the same."""
    import diffusers
    from transformers import Qwen2_5_VLTextModel, SiglipVisionConfig, SiglipVisionModel, T5Config, T5EncoderModel
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig

    transformer: Any = diffusers.HunyuanVideo15Transformer3DModel
    autoencoder: Any = diffusers.AutoencoderKLHunyuanVideo15
    shared, embedding = "shared.weight", "encoder.embed_tokens.weight"
    return {
        "text_encoder": (lambda: Qwen2_5_VLTextModel(Qwen2_5_VLTextConfig.from_dict(config)), (), {}),
        "text_encoder_2": (
            lambda: T5EncoderModel(T5Config.from_dict(config)),
            ("wo",),  # overflows in float16
            {embedding: shared, shared: embedding},
        ),
        "image_encoder": (lambda: SiglipVisionModel(SiglipVisionConfig.from_dict(config)), (), {}),
        "transformer": (lambda: transformer.from_config(config), (), {}),
        "vae": (lambda: autoencoder.from_config(config), (), {}),
    }


def _with_positions(network: Any, *, component: str, device: str) -> nn.Module:
    """Tables of positions are not stored in files: make them anew."""
    if component == "text_encoder":
        network.rotary_emb = type(network.rotary_emb)(config=network.config).to(device)
    elif component == "image_encoder":
        embeddings = network.embeddings
        embeddings.position_ids = torch.arange(embeddings.num_positions, device=device)[None]
    made: nn.Module = network
    return made


def _name_in_network(name: str) -> str | None:
    """Files of SigLIP name their tensors as older releases of transformers did, and may hold a table of positions."""
    return None if name.endswith("embeddings.position_ids") else name.removeprefix("vision_model.")
