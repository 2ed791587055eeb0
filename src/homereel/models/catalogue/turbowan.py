"""TurboWan: students of Wan by rCM, which need few steps and no guidance. Their repositories hold pickled weights only.

Their times start at a TrigFlow sigma of 80 for words and of 200 for pictures. The shift is for other samplers, whose
times at 5 lie near those that the students know.
"""

from __future__ import annotations

from homereel.models.card import ClipCard, ModelCard
from homereel.models.catalogue.licences import APACHE

_AT_480P = ClipCard(
    width=832, height=480, num_frames=81, fps=16, steps=4, guidance=1.0, shift=5.0, sampler="rcm", sigma_max=80
)  # fmt: skip
_AT_720P = _AT_480P.model_copy(update={"width": 1280, "height": 720})


def _turbo(**facts: object) -> ModelCard:
    common = {
        "family": "wan",
        "licence": APACHE,
        "open_vocabulary": True,
        "max_sequence_length": 512,
        "download_bytes": None,
        "pickled": True,
    }
    return ModelCard.model_validate({**common, **facts})


TURBOWAN = (
    _turbo(
        id="turbowan2.1-t2v-1.3b-480p",
        aliases=("turbowan", "turbowan2.1"),
        title="TurboWan 2.1, text to video in 4 steps at 480p, 1.3 billion parameters",
        tasks=("text-to-video",),
        repo="TurboDiffusion/TurboWan2.1-T2V-1.3B-480P",
        defaults=_AT_480P,
        rank=30,
    ),
    _turbo(
        id="turbowan2.1-t2v-14b-480p",
        title="TurboWan 2.1, text to video in 4 steps at 480p, 14 billion parameters",
        tasks=("text-to-video",),
        repo="TurboDiffusion/TurboWan2.1-T2V-14B-480P",
        defaults=_AT_480P,
        rank=31,
    ),
    _turbo(
        id="turbowan2.1-t2v-14b-720p",
        title="TurboWan 2.1, text to video in 4 steps at 720p, 14 billion parameters",
        tasks=("text-to-video",),
        repo="TurboDiffusion/TurboWan2.1-T2V-14B-720P",
        defaults=_AT_720P,
        rank=32,
    ),
    _turbo(
        id="turbowan2.2-i2v-a14b-720p",
        aliases=("turbowan2.2",),
        title="TurboWan 2.2, first frame to video in 4 steps at 720p, two experts of 14 billion parameters",
        tasks=("image-to-video",),
        repo="TurboDiffusion/TurboWan2.2-I2V-A14B-720P",
        defaults=_AT_720P.model_copy(update={"sigma_max": 200.0}),
        rank=33,
    ),
)
