"""HunyuanVideo-1.5, 8.3 billion parameters, in the layout of diffusers: base and distilled, 480p and 720p."""

from __future__ import annotations

from typing import Literal

from homereel.models.card import ClipCard, ModelCard
from homereel.models.catalogue.licences import HUNYUAN_LICENCE

_REPO = "hunyuanvideo-community/HunyuanVideo-1.5-Diffusers-"
_Task = Literal["t2v", "i2v"]
_SIZES = {"480p": (848, 480), "720p": (1280, 720)}
_TASKS = {"t2v": ("text to video", "text-to-video"), "i2v": ("first frame to video", "image-to-video")}
_STUDENTS = {"": "", "distilled": ", no guidance", "step-distilled": ", 12 steps"}
# In bfloat16: 16.7 transformer, 14.1 and 0.4 text encoders, 2.5 VAE; those for pictures also have an eye of 0.9.
_BYTES = {"t2v": 33_800_000_000, "i2v": 34_600_000_000}
MAX_TOKENS = 1000


def _hunyuan(
    size: Literal["480p", "720p"],
    task: _Task,
    student: Literal["", "distilled", "step-distilled"] = "",
    *,
    shift: float,
    rank: int,
    aliases: tuple[str, ...] = (),
) -> ModelCard:
    words, name = _TASKS[task]
    width, height = _SIZES[size]
    ending = f"-{student}" if student else ""
    return ModelCard.model_validate(
        {
            "id": f"hunyuanvideo-1.5-{size}-{task}{ending}",
            "aliases": aliases,
            "family": "hunyuanvideo-1.5",
            "title": f"HunyuanVideo 1.5, {words} at {size}{_STUDENTS[student]}",
            "tasks": (name,),
            "licence": HUNYUAN_LICENCE,
            "repo": _REPO + f"{size}_{task}{ending}".replace("-", "_"),
            "download_bytes": _BYTES[task],
            "vram_bytes": 14_000_000_000,
            "open_vocabulary": True,
            "max_sequence_length": MAX_TOKENS,
            "defaults": ClipCard(
                width=width,
                height=height,
                num_frames=121,
                fps=24,
                steps=12 if student == "step-distilled" else 50,
                guidance=1.0 if student else 6.0,
                shift=shift,
                sampler="euler",
            ),
            "rank": rank,
            "supported": True,
        }
    )


# The default is a model that words suffice for, so those rank above the ones that need a picture.
HUNYUAN = (
    _hunyuan("480p", "t2v", shift=5, rank=45, aliases=("hunyuanvideo-1.5", "hunyuanvideo")),
    _hunyuan("480p", "t2v", "distilled", shift=5, rank=46),
    _hunyuan("480p", "i2v", shift=5, rank=40),
    _hunyuan("480p", "i2v", "distilled", shift=5, rank=41),
    _hunyuan("480p", "i2v", "step-distilled", shift=7, rank=42),
    _hunyuan("720p", "t2v", shift=9, rank=47),
    _hunyuan("720p", "i2v", shift=7, rank=43),
    _hunyuan("720p", "i2v", "distilled", shift=7, rank=44),
)
