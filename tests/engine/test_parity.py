"""The engine against diffusers' own pipelines: same weights, noise and schedule must give the same latents."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import torch
from torch import Tensor

from homereel.core.request import Request
from homereel.engine.generate import generate
from homereel.engine.session import Session
from homereel.models.wan.family import WanFamily
from tests.engine.conftest import MakeRequest
from tests.tiny_models import MAX_TOKENS

SETTINGS = [(sampler, guidance, steps) for sampler in ("unipc", "euler") for guidance in (1.0, 4.0) for steps in (1, 6)]


class OurLatents(Protocol):
    def __call__(self, request: Request) -> Tensor: ...


@pytest.fixture
def our_latents(session: Session, monkeypatch: pytest.MonkeyPatch) -> OurLatents:
    """The finished latents, as they are handed to the decoder."""
    decoded: list[Tensor] = []
    original = WanFamily.decode

    def decode(self: WanFamily, latents: Tensor, **others: Any) -> Any:
        decoded.append(latents)
        return original(self, latents, **others)

    def make(request: Request) -> Tensor:
        generate(request, session=session)
        return decoded[-1]

    monkeypatch.setattr(WanFamily, "decode", decode)
    return make


def oracle(folder: Path, kind: Any, *, sampler: str, **options: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

    stock = stock_pipeline(folder)
    parts = {name: getattr(stock, name) for name in ("tokenizer", "text_encoder", "vae", "transformer")}
    scheduler = (
        FlowMatchEulerDiscreteScheduler(shift=2.0)
        if sampler == "euler"
        else UniPCMultistepScheduler.from_config(stock.scheduler.config)
    )
    pipeline = kind(**parts, scheduler=scheduler, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@cache
def stock_pipeline(folder: Path) -> Any:
    """Its networks are only read, so each oracle may have them."""
    from diffusers import WanPipeline

    return WanPipeline.from_pretrained(folder)


def their_latents(pipeline: Any, request: Request, **inputs: Any) -> Tensor:
    latents: Tensor = pipeline(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        width=32,
        height=48,
        num_frames=9,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance,
        max_sequence_length=MAX_TOKENS,
        generator=torch.Generator().manual_seed(7),
        output_type="latent",
        **inputs,
    ).frames
    return latents


@pytest.mark.parametrize(("sampler", "guidance", "steps"), SETTINGS)
def test_text_to_video_equals_wan_pipeline(  # noqa: PLR0917
    tiny: MakeRequest, tiny_model_dir: Path, our_latents: OurLatents, sampler: str, guidance: float, steps: int
) -> None:
    from diffusers import WanPipeline

    request = tiny(
        width=32, height=48, num_frames=9, sampler=sampler, guidance=guidance, steps=steps, negative_prompt="a cube"
    )
    theirs = their_latents(oracle(tiny_model_dir, WanPipeline, sampler=sampler), request)
    ours = our_latents(request)
    assert ours.shape == theirs.shape == (1, 4, 3, 6, 4)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("sampler", "guidance", "steps"), SETTINGS)
def test_first_frame_equals_wan_image_to_video_pipeline(  # noqa: PLR0917
    tiny_image_model_dir: Path, our_latents: OurLatents, tmp_path: Path, sampler: str, guidance: float, steps: int
) -> None:
    from diffusers import WanImageToVideoPipeline
    from PIL import Image

    image = Image.fromarray(np.random.default_rng(3).integers(0, 256, (48, 32, 3), np.uint8))
    image.save(tmp_path / "first.png")
    request = Request.parse(
        {
            **{"prompt": "a blue cube spins", "model": str(tiny_image_model_dir), "seed": 7, "num_frames": 9},
            **{"width": 32, "height": 48, "sampler": sampler, "guidance": guidance, "steps": steps},
            "image": tmp_path / "first.png",
        }
    )
    pipeline = oracle(tiny_image_model_dir, WanImageToVideoPipeline, sampler=sampler, expand_timesteps=True)
    theirs = their_latents(pipeline, request, image=image)
    torch.testing.assert_close(our_latents(request), theirs, atol=1e-5, rtol=0)


def test_text_only_on_a_first_frame_model_equals_expanded_timesteps(
    tiny_image_model_dir: Path, our_latents: OurLatents, tiny: MakeRequest
) -> None:
    """Without a picture one time for the whole clip is cheaper than one a token, and must be the same."""
    from diffusers import WanPipeline

    request = tiny(model=str(tiny_image_model_dir), width=32, height=48, num_frames=9, steps=4, guidance=4.0)
    pipeline = oracle(tiny_image_model_dir, WanPipeline, sampler="unipc", expand_timesteps=True)
    theirs = their_latents(pipeline, request)
    torch.testing.assert_close(our_latents(request), theirs, atol=1e-5, rtol=0)


def test_frames_equal_wan_pipeline(tiny: MakeRequest, tiny_model_dir: Path, session: Session) -> None:
    from diffusers import WanPipeline

    request = tiny(width=32, height=48, num_frames=9, steps=4, guidance=4.0)
    pipeline = oracle(tiny_model_dir, WanPipeline, sampler="unipc")
    theirs = pipeline(
        prompt=request.prompt, width=32, height=48, num_frames=9, num_inference_steps=4, guidance_scale=4.0,
        max_sequence_length=MAX_TOKENS, generator=torch.Generator().manual_seed(7), output_type="np",
    ).frames[0]  # fmt: skip
    ours = generate(request, session=session).frames
    difference = np.abs((theirs * 255).round().astype(int) - ours)
    assert int(difference.max()) <= 1, "sums in another order may round to the next level, no further"
