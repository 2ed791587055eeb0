"""HunyuanVideo-1.5 over diffusers' networks: words, or a first frame and words, to video; base and distilled.

Shape letters: B batch, C channels, T frames, H height, W width, L tokens, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from homereel.core.errors import GenerationFailed, WeightsError
from homereel.core.inputs import Inputs
from homereel.core.plan import Plan
from homereel.core.protocols import StepTime, Use, Words
from homereel.core.sound import Sound
from homereel.models.hunyuan.facts import HunyuanFacts
from homereel.models.hunyuan.network import load_part
from homereel.models.hunyuan.text import INSTRUCTION_TOKENS, glyph_ids, glyph_text
from homereel.models.hunyuan.vae import decode_video, encode_picture
from homereel.models.network_pass import named_pass
from homereel.models.picture import checked_frames, fit_picture, to_frames
from homereel.models.tiled_decode import Tile, decode_in_tiles
from homereel.sampling import classifier_free_guidance, noise_alone

# A preview shows this many frames, from latents at most this long on a side.
PREVIEW_FRAMES = 8
PREVIEW_SCALE = 0.5
PREVIEW_CELLS = 12
# The network was trained on what Qwen's last layer but two says.
_TEXT_LAYER = -3


@dataclass(frozen=True)
class HunyuanText:
    """What the encoders say of one text, as long as it is: (1, L, D) of its words, and of what it has in quotes."""

    words: Tensor
    glyphs: Tensor


@dataclass(frozen=True)
class HunyuanConditions:
    """What steers a clip. `first_frame` is latents (1, C, 1, H, W), `seen` is SigLIP's look at it (1, L, D)."""

    prompt: HunyuanText
    negative: HunyuanText | None
    first_frame: Tensor | None = None
    seen: Tensor | None = None


@dataclass(frozen=True)
class HunyuanFamily(HunyuanFacts):
    """A HunyuanVideo-1.5 that can compute; see `Family` for what each part means."""

    def load(self, component: str, *, device: str, dtype: str) -> nn.Module:
        return load_part(self.folder, component, device=device, dtype=dtype)

    @torch.inference_mode()
    def read_words(self, texts: Sequence[str], *, use: Use) -> tuple[Words, ...]:
        with use("text_encoder") as text_encoder:
            words = [self.encode_words(text_encoder, text) for text in texts]
        glyphs = self._encode_quoted(texts, like=words[0], use=use)
        return tuple({"words": pair[0], "glyphs": pair[1]} for pair in zip(words, glyphs, strict=True))

    @torch.inference_mode()
    def encode(self, inputs: Inputs, *, plan: Plan, use: Use, words: Sequence[Words]) -> HunyuanConditions:
        texts = [HunyuanText(each["words"], each["glyphs"]) for each in words]
        negative = texts[1] if len(texts) > 1 else None
        if inputs.first is None or not self.config.from_picture:
            return HunyuanConditions(texts[0], negative)
        picture = fit_picture(inputs.first, width=plan.width, height=plan.height)
        with use("image_encoder") as eye:
            seen = self._look_at(eye, picture)
        with use("vae") as vae:
            return HunyuanConditions(texts[0], negative, encode_picture(vae, picture), seen)

    def encode_words(self, text_encoder: Any, prompt: str) -> Tensor:
        """(1, L, D) of the prompt alone; what the encoder says of the instruction before it is dropped."""
        ids = self.tokenizer.ids(prompt)
        if max(ids) >= text_encoder.config.vocab_size:
            raise WeightsError(f"{self.folder.path}: the tokenizer knows more words than the text encoder does")
        tokens = torch.tensor([ids], device=text_encoder.device)
        states = text_encoder(input_ids=tokens, output_hidden_states=True, use_cache=False).hidden_states
        words: Tensor = states[_TEXT_LAYER][:, INSTRUCTION_TOKENS:]
        return words

    def _encode_quoted(self, prompts: Sequence[str], *, like: Tensor, use: Use) -> list[Tensor]:
        """(1, L, D) of each; without any quotes the encoder is not even loaded."""
        texts = [glyph_text(prompt) for prompt in prompts]
        nothing = like.new_zeros(1, 0, self.config.glyph_features)
        if not any(texts):
            return [nothing for _ in texts]
        with use("text_encoder_2") as encoder:
            return [
                nothing if text is None else encoder(torch.tensor([glyph_ids(text)], device=encoder.device))[0]
                for text in texts
            ]

    def _look_at(self, eye: Any, picture_CHW: Tensor) -> Tensor:
        """What SigLIP sees in the picture as the clip will show it: (1, L, D)."""
        from transformers import SiglipImageProcessor

        processor = SiglipImageProcessor.from_pretrained(self.folder.path / "feature_extractor")
        pixels = processor(images=to_frames(picture_CHW[:, None])[0], return_tensors="pt").pixel_values
        seen: Tensor = eye(pixels.to(eye.device, eye.dtype)).last_hidden_state
        return seen

    def begin(
        self,
        stage: int,  # noqa: ARG002  # there is one
        noise: Sequence[Tensor],
        *,
        plan: Plan,  # noqa: ARG002
        conditions: HunyuanConditions,  # noqa: ARG002
        done: Tensor | None,  # noqa: ARG002
        sigma: float,
        use: Use,  # noqa: ARG002
    ) -> Tensor:
        return noise_alone(noise[0], sigma=sigma)

    def denoiser(self, timestep: float) -> str:  # noqa: ARG002  # there is one for all times
        return "transformer"

    @torch.inference_mode()
    def velocity(
        self,
        denoiser: Any,
        latents: Tensor,
        *,
        time: StepTime,
        plan: Plan,
        conditions: HunyuanConditions,
        on_pass: Callable[[], None],
    ) -> Tensor:
        """Two passes, or one without guidance; each by its own name, so that a step cache keeps them apart."""
        dtype, device = denoiser.dtype, latents.device
        nothing = latents.new_zeros(1, 0, self.config.image_features)
        seen = nothing if conditions.seen is None else conditions.seen
        common: dict[str, Tensor] = {
            "hidden_states": torch.cat([latents, _known_channels(latents, conditions.first_frame)], dim=1).to(dtype),
            "timestep": time.timestep.to(device).float().expand(1),
            "image_embeds": seen.to(device, dtype),
        }
        if self.config.meanflow:
            common["timestep_r"] = torch.tensor([time.next_timestep], device=device)

        stage = self.stages(plan)[time.stage]

        def flow(text: HunyuanText, name: str) -> Tensor:
            with named_pass(denoiser, name, time=time, stage=stage):
                velocity: Tensor = denoiser(
                    encoder_hidden_states=text.words.to(device, dtype),
                    encoder_attention_mask=_all_valid(text.words, device=device),
                    encoder_hidden_states_2=text.glyphs.to(device, dtype),
                    encoder_attention_mask_2=_all_valid(text.glyphs, device=device),
                    return_dict=False,
                    **common,
                )[0]
            on_pass()
            return velocity.float()

        wanted = flow(conditions.prompt, "prompt")
        if conditions.negative is None:
            return wanted
        return classifier_free_guidance(wanted, flow(conditions.negative, "negative"), scale=plan.guidance)

    def finish(
        self,
        stage: int,  # noqa: ARG002  # there is one
        latents: Tensor,
        *,
        plan: Plan,  # noqa: ARG002
        conditions: HunyuanConditions,  # noqa: ARG002
        done: Tensor | None,  # noqa: ARG002
    ) -> Tensor:
        return latents

    def decode_sound(self, latents: Tensor, *, plan: Plan, use: Use) -> Sound | None:  # noqa: ARG002
        return None

    @torch.inference_mode()
    def decode(self, latents: Tensor, *, plan: Plan, use: Use) -> Generator[NDArray[np.uint8]]:
        with use("vae") as vae:
            tiles = None if plan.residency is None else plan.residency.vae_tiles
            if tiles is not None:
                tile = Tile.of(tiles, frame_scale=self.config.frame_scale, scale=self.config.scale)
                pieces = decode_in_tiles(lambda part: decode_video(vae, part, whole=True), latents, tile=tile)
                yield from checked_frames(pieces)
                return
            video = decode_video(vae, latents, whole=self.fits_whole(plan, item_bytes=vae.dtype.itemsize))
            if not bool(torch.isfinite(video).all()):
                raise GenerationFailed("the decoded frames hold numbers that are not finite; try another seed")
            yield to_frames(video[0])

    @torch.inference_mode()
    def preview(self, stage: int, latents: Tensor, *, plan: Plan, use: Use) -> NDArray[np.uint8]:  # noqa: ARG002
        """The whole clip is decoded from latents made smaller: soft, but true in colour and motion."""
        scale = min(PREVIEW_SCALE, PREVIEW_CELLS / max(latents.shape[-2:]))
        small = nn.functional.interpolate(latents, scale_factor=(1, scale, scale), mode="area")
        with use("vae") as vae:
            video = decode_video(vae, small, whole=True)
        chosen = torch.linspace(0, video.shape[2] - 1, min(PREVIEW_FRAMES, video.shape[2])).round().long()
        return to_frames(video[0, :, chosen.to(video.device)].nan_to_num())

    def blocks(self, denoiser: Any) -> Sequence[nn.Module]:
        return tuple(denoiser.transformer_blocks)

    def side_blocks(self, denoiser: Any) -> Sequence[nn.Module]:  # noqa: ARG002
        return ()


def _known_channels(latents: Tensor, first_frame: Tensor | None) -> Tensor:
    """Beside the noise: latents of what is known, zeros elsewhere, and a channel that is 1 where something is."""
    known = torch.zeros_like(latents)
    names = torch.zeros_like(latents[:, :1])
    if first_frame is not None:
        known[:, :, :1] = first_frame.to(latents)
        names[:, :, :1] = 1
    return torch.cat([known, names], dim=1)


def _all_valid(text: Tensor, *, device: torch.device) -> Tensor:
    """A mask that hides nothing, since a text is as long as it is: (1, L)."""
    return torch.ones(text.shape[:2], device=device)
