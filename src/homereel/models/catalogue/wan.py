"""Wan 2.1 and 2.2, in diffusers layout. Shift is 3 at 480p and 5 at 720p, as the makers advise."""

from __future__ import annotations

from homereel.models.card import ClipCard, ModelCard
from homereel.models.catalogue.licences import APACHE

_AT_480P = ClipCard(
    width=832, height=480, num_frames=81, fps=16, steps=50, guidance=5.0, shift=3.0, sampler="unipc"
)  # fmt: skip
_AT_720P = _AT_480P.model_copy(update={"width": 1280, "height": 720, "shift": 5.0})
_TEXT, _IMAGE, _ENDS, _FOOTAGE = "text-to-video", "image-to-video", "first-last-to-video", "video-to-video"


def _wan(**facts: object) -> ModelCard:
    common = {"family": "wan", "licence": APACHE, "open_vocabulary": True, "max_sequence_length": 512}
    return ModelCard.model_validate({**common, **facts})


WAN = (
    _wan(
        id="wan2.1-t2v-1.3b",
        aliases=("wan", "wan2.1"),
        title="Wan 2.1, text to video, 1.3 billion parameters",
        tasks=(_TEXT, _FOOTAGE),
        repo="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        download_bytes=28_900_000_000,  # 5.7 transformer, 22.7 text encoder (both float32), 0.5 VAE
        vram_bytes=8_190_000_000,
        defaults=_AT_480P,
        rank=10,
        supported=True,
    ),
    _wan(
        id="wan2.1-t2v-14b",
        title="Wan 2.1, text to video, 14 billion parameters",
        tasks=(_TEXT, _FOOTAGE),
        repo="Wan-AI/Wan2.1-T2V-14B-Diffusers",
        download_bytes=80_400_000_000,  # 57.2 transformer, 22.7 text encoder (both float32), 0.5 VAE
        defaults=_AT_720P,
        rank=15,
        supported=True,
    ),
    _wan(
        id="wan2.1-i2v-14b-480p",
        title="Wan 2.1, first frame to video at 480p, 14 billion parameters",
        tasks=(_IMAGE,),
        repo="Wan-AI/Wan2.1-I2V-14B-480P-Diffusers",
        download_bytes=46_000_000_000,  # in bfloat16: 32.8 transformer, 11.4 text, 1.3 image encoder, 0.5 VAE
        defaults=_AT_480P,
        rank=16,
        supported=True,
    ),
    _wan(
        id="wan2.1-i2v-14b-720p",
        title="Wan 2.1, first frame to video at 720p, 14 billion parameters",
        tasks=(_IMAGE,),
        repo="Wan-AI/Wan2.1-I2V-14B-720P-Diffusers",
        download_bytes=46_000_000_000,  # in bfloat16, as above
        defaults=_AT_720P,
        rank=17,
        supported=True,
    ),
    _wan(
        id="wan2.1-flf2v-14b",
        title="Wan 2.1, first and last frame to video at 720p, 14 billion parameters",
        tasks=(_ENDS,),
        repo="Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers",
        download_bytes=46_000_000_000,  # in bfloat16, as above
        defaults=_AT_720P.model_copy(update={"guidance": 5.5}),
        rank=11,
        supported=True,
    ),
    _wan(
        id="wan2.1-vace-1.3b",
        title="Wan 2.1 VACE, from references, masks and control clips, 1.3 billion parameters",
        tasks=(_TEXT, "control-to-video"),
        repo="Wan-AI/Wan2.1-VACE-1.3B-diffusers",
        download_bytes=None,
        defaults=_AT_480P,
        rank=9,
        supported=True,
    ),
    _wan(
        id="wan2.1-vace-14b",
        title="Wan 2.1 VACE, from references, masks and control clips, 14 billion parameters",
        tasks=(_TEXT, "control-to-video"),
        repo="Wan-AI/Wan2.1-VACE-14B-diffusers",
        download_bytes=46_600_000_000,  # in bfloat16: 34.7 transformer, 11.4 text encoder, 0.5 VAE
        defaults=_AT_720P,
        rank=12,
        supported=True,
    ),
    _wan(
        id="wan2.2-t2v-a14b",
        title="Wan 2.2, text to video, two experts of 14 billion parameters",
        tasks=(_TEXT, _FOOTAGE),
        repo="Wan-AI/Wan2.2-T2V-A14B-Diffusers",
        download_bytes=126_200_000_000,  # twice 57.2 transformer (float32), 11.4 text encoder, 0.5 VAE
        defaults=_AT_720P.model_copy(update={"steps": 40, "guidance": 4.0, "guidance_2": 3.0, "shift": 12.0}),
        rank=25,
        supported=True,
    ),
    _wan(
        id="wan2.2-i2v-a14b",
        title="Wan 2.2, first frame to video, two experts of 14 billion parameters",
        tasks=(_IMAGE, _ENDS),
        repo="Wan-AI/Wan2.2-I2V-A14B-Diffusers",
        download_bytes=126_200_000_000,  # as above
        defaults=ClipCard(
            width=1280, height=720, num_frames=81, fps=16, steps=40, guidance=3.5, shift=5.0, sampler="unipc"
        ),
        rank=24,
        supported=True,
    ),
    _wan(
        id="wan2.2-ti2v-5b",
        aliases=("wan2.2",),
        title="Wan 2.2, text or first frame to video, 5 billion parameters",
        tasks=(_TEXT, _IMAGE, _FOOTAGE),
        repo="Wan-AI/Wan2.2-TI2V-5B-Diffusers",
        download_bytes=24_200_000_000,  # in bfloat16: 10.0 transformer, 11.4 text encoder; 2.8 VAE in float32
        defaults=ClipCard(
            width=1280, height=704, num_frames=121, fps=24, steps=50, guidance=5.0, shift=5.0, sampler="unipc"
        ),
        rank=20,
        supported=True,
    ),
)
