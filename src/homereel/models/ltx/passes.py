"""One pass of LTX-2's transformer over a step's latents, and the guided flow that several of them give.

Shape letters: B batch, S video tokens, L sound tokens, C and D features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from homereel.core.model import Stage
from homereel.core.protocols import StepTime
from homereel.models.ltx.guidance import Guidance, guided
from homereel.models.ltx.layout import LtxLayout
from homereel.models.ltx.pictures import KnownTokens, token_places
from homereel.models.ltx.text import LtxWords
from homereel.models.network_pass import named_pass


@dataclass(frozen=True)
class LtxConditions:
    """What steers a clip: its words, what guidance compares them with, and pictures at the size of each stage."""

    prompt: LtxWords
    negative: LtxWords | None
    known: tuple[KnownTokens, ...]


@dataclass(frozen=True)
class LtxStep:
    """All that the passes of one step have in common."""

    denoiser: Any
    layout: LtxLayout
    video_BSC: Tensor
    audio_BLD: Tensor
    time: StepTime
    stage: Stage
    known: KnownTokens
    fps: float
    crossed_times: bool
    on_pass: Callable[[], None]

    def flow(self, conditions: LtxConditions, guidance: Guidance) -> tuple[Tensor, Tensor]:
        """The guided flow from picture to noise of video and sound; it is still where a token is known."""
        words = conditions.prompt
        wanted = self._pictures(words, "prompt")
        other = (
            self._pictures(conditions.negative, "negative") if conditions.negative and guidance.compares_words else None
        )
        skipped = self._pictures(words, "skipped", blocks=guidance.blocks) if guidance.skips else None
        alone = self._pictures(words, "alone", isolate=True) if guidance.isolates else None
        video, audio = (
            guided(
                wanted[stream],
                other=None if other is None else other[stream],
                skipped=None if skipped is None else skipped[stream],
                alone=None if alone is None else alone[stream],
                scales=scales,
            )
            for stream, scales in enumerate((guidance.video, guidance.audio))
        )
        if not self.known.nothing:
            mask = self._mask()[..., None]
            clean = self.known.over(torch.zeros_like(video[:, : self.layout.video_tokens]))
            video = video * (1 - mask) + clean * mask
        return (self.video_BSC - video) / self.time.sigma, (self.audio_BLD - audio) / self.time.sigma

    def _pictures(
        self, words: LtxWords, name: str, *, blocks: tuple[int, ...] = (), isolate: bool = False
    ) -> tuple[Tensor, Tensor]:
        """The clean latents as the transformer sees them, attention left out in `blocks`."""
        network, dtype = self.denoiser, self.denoiser.dtype
        time_B = self.time.timestep.to(self.video_BSC).expand(1)
        mask = words.mask.to(time_B.device)
        with named_pass(network, name, time=self.time, stage=self.stage):
            video, audio = network(
                hidden_states=self.video_BSC.to(dtype),
                audio_hidden_states=self.audio_BLD.to(dtype),
                encoder_hidden_states=words.video.to(time_B.device, dtype),
                audio_encoder_hidden_states=words.audio.to(time_B.device, dtype),
                timestep=time_B if self.known.nothing else time_B[:, None] * (1 - self._mask()),
                audio_timestep=time_B,
                sigma=time_B,
                encoder_attention_mask=mask,
                audio_encoder_attention_mask=mask,
                video_coords=self._places(),
                audio_coords=network.audio_rope.prepare_audio_coords(1, self.layout.audio_frames, time_B.device),
                isolate_modalities=isolate,
                spatio_temporal_guidance_blocks=list(blocks) or None,
                use_cross_timestep=self.crossed_times,
                return_dict=False,
            )
        self.on_pass()
        return self.video_BSC - video.float() * self.time.sigma, self.audio_BLD - audio.float() * self.time.sigma

    def _places(self) -> Tensor:
        layout = self.layout
        places = self.denoiser.rope.prepare_video_coords(
            1, layout.frames, layout.height, layout.width, self.video_BSC.device, fps=self.fps
        )
        return token_places(places, later_frames=self.known.later_frames, layout=layout, fps=self.fps)

    def _mask(self) -> Tensor:
        return self.known.mask(self.layout).to(self.video_BSC.device)
