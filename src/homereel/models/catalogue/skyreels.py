"""SkyReels-V2 with diffusion forcing: films of any length, window after window.

The standard clip is one window. Downloads are the sum of the weights: text encoder 11.4 GB in bfloat16, VAE 0.5.
"""

from __future__ import annotations

from homereel.models.card import ClipCard, ModelCard
from homereel.models.catalogue.licences import SKYWORK_LICENCE

_AT_540P = ClipCard(
    width=960, height=544, num_frames=97, fps=24, steps=30, guidance=6.0, shift=8.0, sampler="unipc"
)  # fmt: skip


def _skyreels(name: str, **facts: object) -> ModelCard:
    common = {
        "id": f"skyreels-v2-df-{name.lower()}",
        "family": "skyreels-v2",
        "tasks": ("text-to-video", "image-to-video"),
        "licence": SKYWORK_LICENCE,
        "repo": f"Skywork/SkyReels-V2-DF-{name}-Diffusers",
        "open_vocabulary": True,
        "max_sequence_length": 512,
        "supported": True,
    }
    return ModelCard.model_validate({**common, **facts})


SKYREELS = (
    _skyreels(
        "1.3B-540P",
        title="SkyReels V2 diffusion forcing, long text to video, 1.3 billion parameters",
        download_bytes=14_800_000_000,  # 2.9 transformer
        vram_bytes=14_700_000_000,
        defaults=_AT_540P,
        rank=5,
        aliases=("skyreels-v2", "skyreels-v2-df"),
    ),
    _skyreels(
        "14B-540P",
        title="SkyReels V2 diffusion forcing, long text to video, 14 billion parameters",
        download_bytes=40_500_000_000,  # 28.6 transformer
        vram_bytes=51_200_000_000,
        defaults=_AT_540P,
        rank=6,
    ),
    _skyreels(
        "14B-720P",
        title="SkyReels V2 diffusion forcing, long text to video, 14 billion parameters at 720p",
        download_bytes=40_500_000_000,  # as above
        defaults=_AT_540P.model_copy(update={"width": 1280, "height": 720, "num_frames": 121}),
        rank=7,
    ),
)
