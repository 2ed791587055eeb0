"""LTX-2: video with sound in sync."""

from __future__ import annotations

from homereel.models.card import ClipCard, ModelCard
from homereel.models.catalogue.licences import LTX_LICENCE

LTX = (
    ModelCard(
        id="ltx-2.5",
        aliases=("ltx", "ltx-2"),
        family="ltx-2",
        title="LTX 2.5, text, first frame or keyframes to video with sound",
        tasks=("text-to-video", "image-to-video", "keyframes-to-video"),
        sound=True,
        licence=LTX_LICENCE,
        repo="Lightricks/LTX-2.5-Diffusers",
        gated=True,
        download_bytes=70_900_000_000,
        open_vocabulary=True,
        max_sequence_length=None,
        defaults=ClipCard(width=768, height=512, num_frames=121, fps=24, steps=30, guidance=3.0),
        rank=50,
    ),
)
