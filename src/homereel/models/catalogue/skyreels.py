"""SkyReels-V2 with diffusion forcing: clips without an end, window after window."""

from __future__ import annotations

from homereel.models.card import ClipCard, ModelCard
from homereel.models.catalogue.licences import SKYWORK_LICENCE

_AT_540P = ClipCard(
    width=960, height=544, num_frames=97, fps=24, steps=30, guidance=6.0, shift=8.0, sampler="unipc"
)  # fmt: skip


def _skyreels(name: str, *, title: str, defaults: ClipCard, rank: int, aliases: tuple[str, ...] = ()) -> ModelCard:
    return ModelCard(
        id=f"skyreels-v2-df-{name.lower()}",
        aliases=aliases,
        family="skyreels-v2",
        title=f"SkyReels V2 diffusion forcing, long text to video, {title}",
        tasks=("text-to-video", "image-to-video"),
        licence=SKYWORK_LICENCE,
        repo=f"Skywork/SkyReels-V2-DF-{name}-Diffusers",
        download_bytes=None,
        open_vocabulary=True,
        max_sequence_length=512,
        defaults=defaults,
        rank=rank,
    )


SKYREELS = (
    _skyreels(
        "1.3B-540P",
        title="1.3 billion parameters",
        defaults=_AT_540P,
        rank=60,
        aliases=("skyreels-v2", "skyreels-v2-df"),
    ),
    _skyreels("14B-540P", title="14 billion parameters", defaults=_AT_540P, rank=61),
    _skyreels(
        "14B-720P",
        title="14 billion parameters at 720p",
        defaults=_AT_540P.model_copy(update={"width": 1280, "height": 720, "num_frames": None}),
        rank=62,
    ),
)
