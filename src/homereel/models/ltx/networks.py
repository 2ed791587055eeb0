"""LTX-2's networks: how each is made, which tensors of the files are its own, what files do not hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from homereel.core.errors import WeightsError
from homereel.models.ltx.config import GEMMA_4, UPSCALER, text_name
from homereel.weights.load import load_network
from homereel.weights.model_folder import ModelFolder


def load_ltx_network(folder: ModelFolder, component: str, *, device: str, dtype: str) -> nn.Module:
    """A network in evaluation mode. Raises WeightsError. Of the text encoder only the part that reads is loaded."""
    config = folder.config(component)
    build = _reader(config) if component == "text_encoder" else _builder(component, config)
    network = load_network(
        build,
        folder=folder,
        component=component,
        device=device,
        dtype=dtype,
        names=text_name if component == "text_encoder" else lambda name: name,
    )
    _restore_buffers(network, component=component, device=device)
    return network


def latent_statistics(folder: ModelFolder, component: str) -> tuple[Tensor, Tensor]:
    """Mean and spread of an autoencoder's latents a channel, read from its files without loading it."""
    names = ("latents_mean", "latents_std")
    found: dict[str, Tensor] = {}
    for file in folder.weight_files(component):
        try:
            with safe_open(str(file), framework="pt") as stored:
                found |= {name: stored.get_tensor(name).float() for name in names if name in stored.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{file} cannot be loaded: {error}") from None
    if len(found) < len(names):
        raise WeightsError(f"{component} lacks {' or '.join(names)}; the model is not complete")
    return found[names[0]], found[names[1]]


def _reader(config: dict[str, Any]) -> Callable[[], nn.Module]:
    """Gemma without its eyes and without the head that would write."""
    import transformers

    if config.get("model_type") in GEMMA_4:
        whole: Any = transformers.Gemma4UnifiedConfig
        reader: Any = transformers.Gemma4UnifiedTextModel
    else:
        whole, reader = transformers.Gemma3Config, transformers.Gemma3TextModel
    return lambda: reader(whole.from_dict(config).text_config)


def _builder(component: str, config: dict[str, Any]) -> Callable[[], nn.Module]:
    import diffusers
    from diffusers.pipelines import ltx2

    kinds: dict[str, Any] = {
        "connectors": ltx2.LTX2TextConnectors,
        "transformer": diffusers.LTX2VideoTransformer3DModel,
        UPSCALER: ltx2.LTX2LatentUpsamplerModel,
        "vae": diffusers.AutoencoderKLLTX2Video,
        "audio_vae": diffusers.AutoencoderKLLTX2Audio,
        "vocoder": ltx2.LTX2VocoderWithBWE if "bwe_in_channels" in config else ltx2.LTX2Vocoder,
    }
    return lambda: kinds[component].from_config(config)


def _restore_buffers(network: Any, *, component: str, device: str) -> None:
    """Tables that are not stored in files: make them anew."""
    if component == "text_encoder":
        embedding = network.embed_tokens
        embedding.embed_scale = torch.tensor(embedding.scalar_embed_scale, device=device)
        network.rotary_emb = type(network.rotary_emb)(config=network.config).to(device)
    elif component == "vocoder" and hasattr(network, "resampler"):
        from diffusers.pipelines.ltx2.vocoder import UpSample1d

        ratio = network.resampler.ratio
        network.resampler = UpSample1d(ratio=ratio, window_type="hann", persistent=False).to(device)
    left = [name for name, buffer in network.named_buffers() if buffer.is_meta]
    if left:
        raise WeightsError(f"{component}: this version of homereel cannot make {left[0]}, which files do not hold")
