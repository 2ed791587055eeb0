"""One row a family (or a kind of it): a tiny model of random weights, a wish, and what diffusers' pipeline makes of it.

`test_contract.py` holds every row to the same contract. A new family adds its row to ROWS.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from homereel.core.request import Request
from tests.engine import test_parity_hunyuan, test_parity_ltx, test_parity_skyreels
from tests.tiny_hunyuan import save_tiny_hunyuan
from tests.tiny_ltx import save_tiny_ltx
from tests.tiny_models import MAX_TOKENS, save_tiny_kind, save_tiny_model
from tests.tiny_skyreels import WINDOW_FRAMES, save_tiny_skyreels

Oracle = Callable[[Path, Request], Tensor]


@dataclass(frozen=True)
class ParityRow:
    """`make` saves the model in the layout of the hub; `pictures` are the fields that get a picture of the clip's size.

    `oracle` gives the finished latents of diffusers' pipeline; `view` brings ours, as they are decoded, into its
    shape (it is given the family, the plan and the latents). `frames` is whether the clip's shape follows the size.
    """

    id: str
    make: Callable[[Path], Path]
    oracle: Oracle
    size: tuple[int, int, int] = (32, 48, 9)  # width, height, frames
    steps: int = 3
    pictures: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    view: Callable[[Any, Any, Tensor], Tensor] = lambda _family, _plan, latents: latents

    def request(self, model: Path, folder: Path) -> Request:
        """The wish, with its pictures saved in `folder`."""
        width, height, num_frames = self.size
        given = {name: _picture(folder / f"{name}.png", width, height) for name in self.pictures}
        common = {"prompt": "a red ball falls", "negative_prompt": "a cube", "seed": 7, "steps": self.steps}
        size = {"width": width, "height": height, "num_frames": num_frames}
        return Request.parse({**common, **size, "model": str(model), **given, **self.fields})


def _picture(path: Path, width: int, height: int) -> Path:
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def _wan(pipeline: str) -> Oracle:
    """Any of Wan's pipelines, with its own scheduler."""

    def latents(folder: Path, request: Request) -> Tensor:
        import diffusers

        kind = getattr(diffusers, pipeline)
        made = kind.from_pretrained(folder)
        made.set_progress_bar_config(disable=True)
        names = {"image": "image", "last": "last_image"}
        given = {names[name]: Image.open(getattr(request, name)) for name in names if getattr(request, name)}
        found: Tensor = made(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            width=request.width,
            height=request.height,
            num_frames=request.num_frames,
            num_inference_steps=request.steps,
            guidance_scale=request.guidance or 3.0,
            max_sequence_length=MAX_TOKENS,
            generator=torch.Generator().manual_seed(7),
            output_type="latent",
            **given,
        ).frames
        return found

    return latents


def _hunyuan(folder: Path, request: Request) -> Tensor:
    given: dict[str, Any] = {"image": Image.open(request.image)} if request.image else {}
    found: Tensor = test_parity_hunyuan.theirs(folder, request, **given)
    return found


def _ltx(folder: Path, request: Request) -> Tensor:
    from diffusers import LTX2Pipeline

    pipeline = test_parity_ltx.oracle(folder, LTX2Pipeline)
    outputs = test_parity_ltx.call(
        pipeline,
        request,
        num_inference_steps=request.steps,
        guidance_scale=1.0,
        stg_scale=0.0,
        modality_scale=1.0,
        audio_guidance_scale=1.0,
        audio_stg_scale=0.0,
        audio_modality_scale=1.0,
    )
    return torch.cat([part.flatten() for part in test_parity_ltx.normalised(pipeline, outputs)])


def _ltx_view(family: Any, plan: Any, latents: Tensor) -> Tensor:
    layout = family.layout(plan, stage=family.num_stages(plan) - 1).without_later()
    return torch.cat([part.flatten() for part in layout.split(latents)])


def _skyreels(folder: Path, request: Request) -> Tensor:
    return test_parity_skyreels.theirs(request, folder)


def _one_file(folder: Path) -> Path:
    """A Wan whose index names a pipeline that only the family of one file understands."""
    save_tiny_model(folder, first_frame=False)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": "OneFilePipeline"}))
    return folder


def _tiny(*, first_frame: bool) -> Callable[[Path], Path]:
    return lambda folder: save_tiny_model(folder, first_frame=first_frame)


def _kind(kind: str) -> Callable[[Path], Path]:
    return lambda folder: save_tiny_kind(folder, kind)


ROWS = (
    ParityRow("wan-t2v", _tiny(first_frame=False), _wan("WanPipeline")),
    ParityRow("wan-ti2v", _tiny(first_frame=True), _wan("WanImageToVideoPipeline"), pictures=("image",)),
    ParityRow("wan-i2v", _kind("i2v"), _wan("WanImageToVideoPipeline"), pictures=("image",)),
    ParityRow("wan-flf2v", _kind("flf2v"), _wan("WanImageToVideoPipeline"), pictures=("image", "last")),
    ParityRow("wan-i2v-a14b", _kind("i2v-a14b"), _wan("WanImageToVideoPipeline"), pictures=("image",), steps=6),
    ParityRow("wan-t2v-a14b", _kind("t2v-a14b"), _wan("WanPipeline"), steps=6),
    ParityRow("wan-vace", _kind("vace"), _wan("WanVACEPipeline")),
    ParityRow("hunyuan-t2v", save_tiny_hunyuan, _hunyuan, size=(48, 64, 9)),
    ParityRow(
        "hunyuan-i2v",
        lambda folder: save_tiny_hunyuan(folder, picture=True),
        _hunyuan,
        size=(48, 64, 9),
        pictures=("image",),
    ),
    ParityRow(
        "ltx-2",
        lambda folder: save_tiny_ltx(folder, generation="2.5", distilled=False),
        _ltx,
        size=(test_parity_ltx.SIDE, test_parity_ltx.SIDE, test_parity_ltx.FRAMES),
        fields={"fps": test_parity_ltx.FPS, "guidance": 1.0},
        view=_ltx_view,
    ),
    ParityRow("skyreels-v2", save_tiny_skyreels, _skyreels, size=(32, 48, WINDOW_FRAMES), fields={"guidance": 3.0}),
    ParityRow("one-file", _one_file, _wan("WanPipeline")),
)
