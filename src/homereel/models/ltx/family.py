"""LTX-2 over diffusers' networks: words and pictures at any frame to video with its sound, at once or in two sizes.

Shape letters: B batch, C channels, T frames, H height, W width, S video tokens, L sound tokens, D features.
A stage's latents are one tensor of one axis: video tokens, tokens of later pictures, sound tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from homereel.core.errors import InvalidRequest
from homereel.core.inputs import Inputs
from homereel.core.plan import Plan
from homereel.core.protocols import StepTime, Use, Words
from homereel.core.sound import Sound
from homereel.models.ltx.config import UPSCALER
from homereel.models.ltx.decode import decode_mel, decode_preview, decode_video, speak
from homereel.models.ltx.facts import WHOLE_DECODE_BYTES, LtxFacts
from homereel.models.ltx.guidance import guidance_for
from homereel.models.ltx.layout import pack_audio, pack_video
from homereel.models.ltx.networks import latent_statistics, load_ltx_network
from homereel.models.ltx.passes import LtxConditions, LtxStep
from homereel.models.ltx.pictures import KnownTokens, encode_pictures
from homereel.models.ltx.text import LtxWords, connect, read_prompt

# A preview shows this many frames, from latents that are at most so many cells long on a side.
PREVIEW_FRAMES = 8
PREVIEW_CELLS = 6
# The decoder mirrors a cell at the edge, so there must be two.
MIN_CELLS = 2


@dataclass(frozen=True)
class LtxFamily(LtxFacts):
    """An LTX-2 that can compute; see `Family` for what each part means."""

    def load(self, component: str, *, device: str, dtype: str) -> nn.Module:
        return load_ltx_network(self.folder, component, device=device, dtype=dtype)

    @torch.inference_mode()
    def encode(self, inputs: Inputs, *, plan: Plan, use: Use, words: Sequence[Words]) -> LtxConditions:
        least = MIN_CELLS * self.config.scale
        if min(plan.width, plan.height) < least:
            raise InvalidRequest(f"size: {plan.width}x{plan.height} is too small; {least}x{least} is the least")
        known: tuple[KnownTokens, ...] = (KnownTokens(),) * self.num_stages(plan)
        if inputs.pictures:
            with use("vae") as vae:
                vae.use_tiling = vae.use_framewise_decoding = False
                known = tuple(
                    encode_pictures(
                        vae,
                        inputs.pictures,
                        width=self.layout(plan, stage=stage).width * self.config.scale,
                        height=self.layout(plan, stage=stage).height * self.config.scale,
                        crf=self.config.image_crf,
                    )
                    for stage in range(self.num_stages(plan))
                )
        prompt, *compared = (LtxWords(**each) for each in words)
        return LtxConditions(prompt=prompt, negative=compared[0] if compared else None, known=known)

    @torch.inference_mode()
    def read_words(self, texts: Sequence[str], *, use: Use) -> tuple[Words, ...]:
        with use("text_encoder") as text_encoder:
            read = []
            for text in texts:
                ids, mask = self.tokenizer.padded(text)
                read.append(read_prompt(text_encoder, ids=ids, mask=mask))
        with use("connectors") as connectors:
            return tuple(vars(connect(connectors, features, mask)) for features, mask in read)

    @torch.inference_mode()
    def begin(
        self,
        stage: int,
        noise: Sequence[Tensor],
        *,
        plan: Plan,
        conditions: LtxConditions,
        done: Tensor | None,
        sigma: float,
        use: Use,
    ) -> Tensor:
        layout, known = self.layout(plan, stage=stage), conditions.known[stage]
        video_noise, audio_noise = noise
        if video_noise.ndim == 5:
            video_noise, audio_noise = pack_video(video_noise), pack_audio(audio_noise)
        if done is None:
            clip, audio = torch.zeros(1, layout.video_tokens, layout.channels), torch.zeros_like(audio_noise)
        else:
            clip, audio = (part.cpu() for part in self._upscaled(done, plan=plan, stage=stage - 1, use=use))
        share = sigma * (1 - known.mask(layout))[..., None]
        video = share * video_noise + (1 - share) * known.over(clip)
        audio = sigma * audio_noise + (1 - sigma) * audio
        return torch.cat([video.flatten(), audio.flatten()])

    def _upscaled(self, done: Tensor, *, plan: Plan, stage: int, use: Use) -> tuple[Tensor, Tensor]:
        """What a stage left, as tokens: its video at twice the size (1, S, C), its sound as it was (1, L, D)."""
        small = self.layout(plan, stage=stage).without_later()
        video, audio = small.split(done)
        mean, spread = (part.to(done).view(1, -1, 1, 1, 1) for part in latent_statistics(self.folder, "vae"))
        latents = small.unpack_video(video) * spread + mean
        with use(UPSCALER) as upscaler:
            large = upscaler(latents.to(upscaler.device, upscaler.dtype)).float()
        return pack_video((large - mean.to(large)) / spread.to(large)), audio

    def denoiser(self, timestep: float) -> str:  # noqa: ARG002  # an LTX-2 has one
        return "transformer"

    @torch.inference_mode()
    def velocity(
        self,
        denoiser: Any,
        latents: Tensor,
        *,
        time: StepTime,
        plan: Plan,
        conditions: LtxConditions,
        on_pass: Callable[[], None],
    ) -> Tensor:
        """One pass without guidance; with it one more for each kind, four in all."""
        layout = self.layout(plan, stage=time.stage)
        # Copies, because where numbers lie in memory may decide the last bit, and a resumed clip's lie elsewhere.
        video, audio = (part.clone() for part in layout.split(latents))
        step = LtxStep(
            denoiser=denoiser,
            layout=layout,
            video_BSC=video,
            audio_BLD=audio,
            time=time,
            stage=self.stages(plan)[time.stage],
            known=conditions.known[time.stage],
            fps=plan.fps,
            crossed_times=self.config.crossed_times,
            on_pass=on_pass,
        )
        flows = step.flow(conditions, guidance_for(self.config, plan.guidance))
        return torch.cat([flow.flatten() for flow in flows])

    def finish(
        self,
        stage: int,
        latents: Tensor,
        *,
        plan: Plan,
        conditions: LtxConditions,  # noqa: ARG002  # known tokens stood still
        done: Tensor | None,  # noqa: ARG002
    ) -> Tensor:
        layout = self.layout(plan, stage=stage)
        video, audio = layout.split(latents)
        return torch.cat([video[:, : layout.video_tokens].flatten(), audio.flatten()])

    @torch.inference_mode()
    def decode_sound(self, latents: Tensor, *, plan: Plan, use: Use) -> Sound | None:
        if not plan.sound:
            return None
        layout = self.last_layout(plan)
        _, audio = layout.split(latents)
        with use("audio_vae") as audio_vae:
            mel = decode_mel(audio_vae, audio, channels=layout.audio_channels)
        with use("vocoder") as vocoder:
            return speak(vocoder, mel, rate=self.config.sound_rate, seconds=plan.clip_seconds)

    @torch.inference_mode()
    def decode(self, latents: Tensor, *, plan: Plan, use: Use) -> Generator[NDArray[np.uint8]]:
        layout = self.last_layout(plan)
        video, _ = layout.split(latents)
        with use("vae") as vae:
            widest = self.widest_layer_bytes(layout, item_bytes=vae.dtype.itemsize)
            yield decode_video(vae, layout.unpack_video(video), tiled=widest > WHOLE_DECODE_BYTES)

    @torch.inference_mode()
    def preview(self, stage: int, latents: Tensor, *, plan: Plan, use: Use) -> NDArray[np.uint8]:
        """The whole clip is decoded from latents made smaller: soft, but true in colour and motion."""
        layout = self.layout(plan, stage=stage)
        clip = layout.unpack_video(layout.split(latents)[0])
        scale = min(1.0, PREVIEW_CELLS / max(clip.shape[-2:]))
        height, width = (max(MIN_CELLS, round(side * scale)) for side in clip.shape[-2:])
        small = nn.functional.interpolate(clip, size=(clip.shape[2], height, width), mode="area")
        with use("vae") as vae:
            return decode_preview(vae, small, num_frames=PREVIEW_FRAMES)

    def blocks(self, denoiser: Any) -> Sequence[nn.Module]:
        return tuple(denoiser.transformer_blocks)

    def side_blocks(self, denoiser: Any) -> Sequence[nn.Module]:  # noqa: ARG002
        return ()
