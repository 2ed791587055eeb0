"""The models that homereel knows by name: data only; what is installed is looked up."""

from __future__ import annotations

from homereel.core.model import Defaults
from homereel.models.card import Licence, ModelCard

# Download sizes are those of the weights in bfloat16: transformer, text encoder and VAE together.
_APACHE = Licence(name="Apache-2.0", kind="open", url="https://www.apache.org/licenses/LICENSE-2.0")

CATALOGUE: tuple[ModelCard, ...] = (
    ModelCard(
        id="pocket",
        family="wan",
        title="the built-in model: lit objects that move as physics has them, on any machine",
        tasks=("text-to-video", "image-to-video"),
        licence=_APACHE,
        repo="",
        download_bytes=0,
        open_vocabulary=False,
        max_sequence_length=32,
        defaults=Defaults(
            width=96, height=96, num_frames=33, fps=16, steps=30, guidance=4.0, shift=2.0, sampler="unipc"
        ),
        rank=0,
    ),
    ModelCard(
        id="wan2.1-t2v-1.3b",
        family="wan",
        title="Wan 2.1, text to video, 1.3 billion parameters",
        tasks=("text-to-video",),
        licence=_APACHE,
        repo="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        download_bytes=14_700_000_000,
        open_vocabulary=True,
        max_sequence_length=512,
        defaults=Defaults(
            width=832, height=480, num_frames=81, fps=16, steps=50, guidance=5.0, shift=3.0, sampler="unipc"
        ),
        rank=10,
    ),
    ModelCard(
        id="wan2.2-ti2v-5b",
        family="wan",
        title="Wan 2.2, text or first frame to video, 5 billion parameters",
        tasks=("text-to-video", "image-to-video"),
        licence=_APACHE,
        repo="Wan-AI/Wan2.2-TI2V-5B-Diffusers",
        download_bytes=24_200_000_000,
        open_vocabulary=True,
        max_sequence_length=512,
        defaults=Defaults(
            width=1280, height=704, num_frames=121, fps=24, steps=50, guidance=5.0, shift=5.0, sampler="unipc"
        ),
        rank=20,
    ),
)
