"""The models inside the package."""

from __future__ import annotations

from homereel.models.card import ClipCard, ModelCard
from homereel.models.catalogue.licences import APACHE

POCKET = (
    ModelCard(
        id="pocket",
        family="wan",
        title="the built-in model: lit objects that move as physics has them, on any machine",
        tasks=("text-to-video", "image-to-video", "video-to-video"),
        licence=APACHE,
        repo="",
        download_bytes=0,
        open_vocabulary=False,
        max_sequence_length=32,
        defaults=ClipCard(
            width=96, height=96, num_frames=33, fps=16, steps=30, guidance=4.0, shift=2.0, sampler="unipc"
        ),
        rank=0,
        supported=True,
        student="pocket-turbo",
    ),
    ModelCard(
        id="pocket-turbo",
        family="wan",
        title="the built-in model's student: the same world in 4 steps, or 2 or 1, without guidance",
        tasks=("text-to-video", "image-to-video", "video-to-video"),
        licence=APACHE,
        repo="",
        download_bytes=0,
        open_vocabulary=False,
        max_sequence_length=32,
        defaults=ClipCard(
            width=96,
            height=96,
            num_frames=33,
            fps=16,
            steps=4,
            guidance=1.0,
            shift=2.0,
            sampler="rcm-ode",
            passes=("sparse_attention:0.17:first_layers=0:first_steps=0:order=wth",),
            passes_from_tokens=1024,
        ),
        rank=-1,
        supported=True,
    ),
)
