"""LTX-2: video with sound in sync. Repositories as diffusers' own documentation names them."""

from __future__ import annotations

from homereel.models.card import ClipCard, ModelCard
from homereel.models.catalogue.licences import LTX_LICENCE

_FULL = ClipCard(
    width=768, height=512, num_frames=121, fps=24, steps=30, guidance=3.0, shift=1.0, sampler="euler"
)  # fmt: skip
_DISTILLED = _FULL.model_copy(update={"steps": 8, "guidance": 1.0})


def _ltx(**facts: object) -> ModelCard:
    common = {
        "family": "ltx-2",
        "tasks": ("text-to-video", "image-to-video", "first-last-to-video", "keyframes-to-video"),
        "sound": True,
        "licence": LTX_LICENCE,
        "open_vocabulary": True,
        "max_sequence_length": 1024,
        "supported": True,
        "extra_parts": ("latent_upsampler",),
        "unused_parts": ("prompt_enhancer", "duration_head"),
    }
    return ModelCard.model_validate({**common, **facts})


LTX = (
    _ltx(
        id="ltx-2.5",
        aliases=("ltx", "ltx-2"),
        title="LTX 2.5, distilled, text, first frame or keyframes to video with sound, 22 billion parameters",
        repo="Lightricks/LTX-2.5-Diffusers",
        gated=True,
        download_bytes=70_900_000_000,
        defaults=_DISTILLED,
        rank=53,
    ),
    _ltx(
        id="ltx-2.3",
        title="LTX 2.3, text, first frame or keyframes to video with sound, 22 billion parameters",
        repo="diffusers/LTX-2.3-Diffusers",
        # in bfloat16: 38.0 transformer, 24.4 text encoder, 6.3 connectors, 1.8 autoencoders and vocoder
        download_bytes=70_500_000_000,
        defaults=_FULL,
        rank=52,
    ),
    _ltx(
        id="ltx-2-19b",
        title="LTX 2, text, first frame or keyframes to video with sound, 19 billion parameters",
        repo="Lightricks/LTX-2",
        # in bfloat16: 37.8 transformer, 24.4 text encoder, 2.9 connectors, 2.7 autoencoders and vocoder
        download_bytes=67_700_000_000,
        defaults=_FULL.model_copy(update={"steps": 40}),
        rank=50,
    ),
    _ltx(
        id="ltx-2-19b-distilled",
        title="LTX 2, distilled, text, first frame or keyframes to video with sound, 19 billion parameters",
        repo="rootonchair/LTX-2-19b-distilled",
        # in bfloat16: as above, and 1.0 for the upscaler
        download_bytes=68_700_000_000,
        defaults=_DISTILLED,
        rank=51,
    ),
)
