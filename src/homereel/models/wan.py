"""Wan 2.1 and 2.2 over diffusers' networks: text to video, and a given first frame as Wan2.2-TI2V-5B takes
it.

Shape letters: B batch, C channels, T frames, H height, W width, L text tokens, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from homereel.core.errors import GenerationFailed
from homereel.core.protocols import Family
from homereel.models.picture import fit_picture, to_frames
from homereel.models.wan_config import WHOLE_DECODE_BYTES, WanFacts
from homereel.models.wan_vae import decode_latents, encode_video, latent_statistics
from homereel.weights.load import load_network

# A preview shows this many frames, from latents at this scale and at most this long on a side.
PREVIEW_FRAMES = 8
PREVIEW_SCALE = 0.5
PREVIEW_CELLS = 24


@dataclass(frozen=True)
class WanConditions:
    """The encoded text (1, L, D), and normalised latents (1, C, 1, H, W) of a first frame if one is given."""

    text: Tensor
    first_frame: Tensor | None


def wan_family(facts: WanFacts) -> Family:
    """The same model, able to compute."""
    return WanFamily(**{field.name: getattr(facts, field.name) for field in fields(facts)})


@dataclass(frozen=True)
class WanFamily(WanFacts):
    """A Wan model that can compute; see `Family` for what each part means."""

    def load(self, component: str, *, device: str, dtype: str) -> nn.Module:
        build, keep, tied = _builders(self.folder.config(component))[component]
        network = load_network(
            build,
            folder=self.folder,
            component=component,
            device=device,
            dtype=dtype,
            keep_float32=keep,
            tied=tied,
        )
        if component == "transformer":
            _restore_positions(network, device=device)
        return network

    @torch.inference_mode()
    def encode_text(self, text_encoder: Any, text: str) -> Tensor:
        ids = torch.tensor([self.tokenizer.ids(text)], device=text_encoder.device)
        features: Tensor = text_encoder(ids).last_hidden_state
        return nn.functional.pad(features, (0, 0, 0, self.max_tokens - ids.shape[1]))

    @torch.inference_mode()
    def encode_image(self, vae: Any, image: NDArray[np.uint8], *, width: int, height: int) -> Tensor:
        picture = fit_picture(image, width=width, height=height)
        moments = encode_video(vae, picture[None, :, None].to(vae.device, vae.dtype)).float()
        mean, spread = (part.to(moments.device) for part in latent_statistics(vae))
        return (moments.chunk(2, dim=1)[0] - mean) / spread

    def conditions(self, text: Tensor, *, first_frame: Tensor | None) -> WanConditions:
        return WanConditions(text=text, first_frame=first_frame)

    def denoiser(self, timestep: float) -> str:  # noqa: ARG002  # one expert for all times
        return "transformer"

    @torch.inference_mode()
    def velocity(self, denoiser: Any, latents: Tensor, *, timestep: Tensor, conditions: WanConditions) -> Tensor:
        flow = denoiser(
            hidden_states=self.settle(latents, conditions=conditions).to(denoiser.dtype),
            timestep=self._times(latents, timestep=timestep, conditions=conditions),
            encoder_hidden_states=conditions.text.to(denoiser.dtype),
            return_dict=False,
        )[0]
        velocity: Tensor = flow.float()
        return velocity

    def settle(self, latents: Tensor, *, conditions: WanConditions) -> Tensor:
        if conditions.first_frame is None:
            return latents
        return torch.cat([conditions.first_frame.to(latents), latents[:, :, 1:]], dim=2)

    @torch.inference_mode()
    def decode(self, vae: Any, latents: Tensor) -> NDArray[np.uint8]:
        mean, spread = (part.to(latents) for part in latent_statistics(vae))
        latents_BCTHW = (latents * spread + mean).to(vae.device, vae.dtype)
        if self.widest_layer_bytes(latents.shape, item_bytes=vae.dtype.itemsize) <= WHOLE_DECODE_BYTES:
            video = decode_latents(vae, latents_BCTHW)
        else:
            video = vae.decode(latents_BCTHW, return_dict=False)[0]
        if not bool(torch.isfinite(video).all()):
            raise GenerationFailed("the decoded frames hold numbers that are not finite; try another seed")
        return to_frames(video[0])

    @torch.inference_mode()
    def preview(self, vae: Any, latents: Tensor) -> NDArray[np.uint8]:
        """The whole clip is decoded from latents made smaller: soft, but true in colour and motion."""
        scale = min(PREVIEW_SCALE, PREVIEW_CELLS / max(latents.shape[-2:]))
        small = nn.functional.interpolate(latents, scale_factor=(1, scale, scale), mode="area")
        mean, spread = (part.to(latents) for part in latent_statistics(vae))
        video = decode_latents(vae, (small * spread + mean).to(vae.device, vae.dtype))
        chosen = torch.linspace(0, video.shape[2] - 1, min(PREVIEW_FRAMES, video.shape[2])).round().long()
        return to_frames(video[0, :, chosen.to(video.device)].nan_to_num())

    def blocks(self, denoiser: Any) -> Sequence[nn.Module]:
        return tuple(denoiser.blocks)

    def _times(self, latents: Tensor, *, timestep: Tensor, conditions: WanConditions) -> Tensor:
        """One time for the clip (1,); with a first frame one a token (1, tokens), 0 where it is known."""
        timestep = timestep.to(latents.device)
        if conditions.first_frame is None:
            return timestep.expand(1)
        frames, rows, columns = (
            side // patch for side, patch in zip(latents.shape[2:], self.config.patch, strict=True)
        )
        times = timestep.float().repeat(frames, rows * columns)
        times[0] = 0
        return times.reshape(1, -1)


_Builder = tuple[Callable[[], nn.Module], tuple[str, ...], dict[str, str]]


def _builders(config: dict[str, Any]) -> dict[str, _Builder]:
    """How each component is made: its class, what stays in float32, which tensors are one and the same."""
    import diffusers
    from transformers import UMT5Config, UMT5EncoderModel

    autoencoder: Any = diffusers.AutoencoderKLWan
    transformer: Any = diffusers.WanTransformer3DModel
    shared, embedding = "shared.weight", "encoder.embed_tokens.weight"
    return {
        "text_encoder": (
            lambda: UMT5EncoderModel(UMT5Config.from_dict(config)),
            (),
            {embedding: shared, shared: embedding},
        ),
        "transformer": (
            lambda: transformer.from_config(config),
            tuple(transformer._keep_in_fp32_modules),
            {},
        ),
        "vae": (lambda: autoencoder.from_config(config), (), {}),
    }


def _restore_positions(transformer: Any, *, device: str) -> None:
    """The table of rotary positions is not stored in files: make it anew."""
    config = transformer.config
    table = type(transformer.rope)(config.attention_head_dim, config.patch_size, config.rope_max_seq_len)
    transformer.rope = table.to(device)
