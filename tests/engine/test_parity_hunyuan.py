"""HunyuanVideo-1.5 against diffusers' own pipelines: same weights, noise and schedule must give the same latents."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from homereel.core.errors import InvalidRequest, UnsupportedInput
from homereel.core.request import Request
from homereel.engine.generate import generate
from homereel.engine.session import Session
from homereel.models.hunyuan.family import HunyuanFamily
from tests.tiny_hunyuan import save_tiny_hunyuan

SIZE = {"width": 48, "height": 64, "num_frames": 9}
EQUAL: dict[str, Any] = {"atol": 1e-5, "rtol": 0}
PLAIN = "a red ball falls on the floor"
QUOTED = 'a neon sign says "Hi, ball" and “on”, not “on”'

MakeModel = Callable[..., Path]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """Tiny models, each made once."""
    made: dict[str, Path] = {}

    def make(**kind: Any) -> Path:
        key = str(sorted(kind.items()))
        if key not in made:
            made[key] = save_tiny_hunyuan(tmp_path_factory.mktemp("tiny-hunyuan"), **kind)
        return made[key]

    return make


@pytest.fixture
def ours(session: Session, monkeypatch: pytest.MonkeyPatch) -> Callable[[Request], Tensor]:
    """Our finished latents, as they are handed to the decoder."""
    decoded: list[Tensor] = []
    original = HunyuanFamily.decode

    def decode(self: HunyuanFamily, latents: Tensor, **others: Any) -> Any:
        decoded.append(latents)
        return original(self, latents, **others)

    def make(request: Request) -> Tensor:
        generate(request, session=session)
        return decoded[-1]

    monkeypatch.setattr(HunyuanFamily, "decode", decode)
    return make


def theirs(folder: Path, request: Request, *, output_type: str = "latent", **inputs: Any) -> Any:
    """What the pipeline of the folder makes, with the guidance and the shift of its own guider and scheduler."""
    size = {} if "image" in inputs else {"width": request.width, "height": request.height}
    return oracle(folder)(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        num_frames=request.num_frames,
        num_inference_steps=request.steps,
        generator=torch.Generator().manual_seed(7),
        output_type=output_type,
        **size,
        **inputs,
    ).frames


@cache
def oracle(folder: Path) -> Any:
    """Each clip sets its scheduler and its guider anew, and changes nothing else."""
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def wish(folder: Path, **fields: Any) -> Request:
    common = {"prompt": PLAIN, "negative_prompt": "a cube", "seed": 7, "steps": 3}
    return Request.parse({**common, **SIZE, "model": str(folder), **fields})


def picture(folder: Path) -> Path:
    """Of the size that the pipeline chooses for these proportions, so that neither has to scale it."""
    path = folder / "first.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (64, 48, 3), np.uint8)).save(path)
    return path


@pytest.mark.parametrize("prompt", [PLAIN, QUOTED])
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("guidance", [1.0, 6.0])  # changes last, since each is a model to load
def test_text_to_video(model_dir: MakeModel, ours: Any, guidance: float, prompt: str, steps: int) -> None:
    """Guidance 1 is what the distilled models have."""
    request = wish(model_dir(guidance=guidance), prompt=prompt, steps=steps)
    expected = theirs(model_dir(guidance=guidance), request)
    found = ours(request)
    assert found.shape == expected.shape == (1, 4, 3, 4, 3)
    torch.testing.assert_close(found, expected, **EQUAL)


def test_an_empty_negative_prompt_and_quotes_in_it(model_dir: MakeModel, ours: Any) -> None:
    for negative in ("", 'a sign that says "no"'):
        request = wish(model_dir(guidance=6.0), prompt=QUOTED, negative_prompt=negative)
        torch.testing.assert_close(ours(request), theirs(model_dir(guidance=6.0), request), **EQUAL)


def test_texts_that_are_too_long(model_dir: MakeModel, ours: Any) -> None:
    """The prompt is cut after 1000 tokens, with the end of the chat; what is in quotes after 256."""
    request = wish(model_dir(guidance=1.0), prompt=f'{"a blue star spins " * 260}"{"neon " * 60}"')
    torch.testing.assert_close(ours(request), theirs(model_dir(guidance=1.0), request), **EQUAL)


@pytest.mark.parametrize(("guidance", "meanflow"), [(6.0, False), (1.0, False), (1.0, True)])
def test_first_frame_to_video(model_dir: MakeModel, ours: Any, tmp_path: Path, guidance: float, meanflow: bool) -> None:
    """Base, distilled, and step-distilled, which is told where each step leads."""
    folder = model_dir(picture=True, guidance=guidance, meanflow=meanflow, shift=7.0)
    request = wish(folder, prompt=QUOTED, steps=4, image=picture(tmp_path))
    expected = theirs(folder, request, image=Image.open(tmp_path / "first.png"))
    torch.testing.assert_close(ours(request), expected, **EQUAL)


def test_settings_that_differ_give_other_latents(model_dir: MakeModel, ours: Any, tmp_path: Path) -> None:
    """Else the tests above would compare nothing: a random network may hardly heed what it is told."""
    plain = wish(model_dir(guidance=6.0))
    seen = wish(model_dir(picture=True, guidance=1.0, meanflow=True, shift=7.0), image=picture(tmp_path))
    for request in (plain, seen):
        before = ours(request)
        changes: list[dict[str, Any]] = [{"prompt": QUOTED}, {"prompt": PLAIN.replace("red", "blue")}, {"shift": 2.0}]
        if request is plain:
            changes += [{"guidance": 3.0}, {"negative_prompt": "a star"}]
        for change in changes:
            difference = (ours(request.replace(**change)) - before).abs().max()
            assert difference > 1e-3, change


def test_frames(model_dir: MakeModel, session: Session) -> None:
    request = wish(model_dir(guidance=6.0))
    expected = (theirs(model_dir(guidance=6.0), request, output_type="np")[0] * 255).round().astype(int)
    result = generate(request, session=session)
    assert result.frames.shape == (9, 64, 48, 3)
    assert result.sound is None
    difference = np.abs(expected - result.frames)
    assert int(difference.max()) <= 1, "sums in another order may round to the next level, no further"


def test_a_preview_is_shown_after_each_step(model_dir: MakeModel, session: Session) -> None:
    shown: list[Any] = []

    def on_progress(event: Any) -> None:
        if event.preview is not None:
            shown.append(event.preview())

    generate(wish(model_dir(guidance=6.0), steps=2), session=session, on_progress=on_progress)
    assert [frames.shape for frames in shown] == [(8, 32, 16, 3)] * 2
    assert any(int(frames.max()) - int(frames.min()) > 8 for frames in shown), "it shows something"


def test_what_it_does_not_take_is_refused(model_dir: MakeModel, session: Session, tmp_path: Path) -> None:
    eyed = model_dir(picture=True, guidance=1.0, meanflow=True, shift=7.0)
    with pytest.raises(UnsupportedInput, match="starts from a first picture"):
        generate(wish(eyed), session=session)
    with pytest.raises(UnsupportedInput, match="takes no picture"):
        generate(wish(model_dir(guidance=6.0), image=picture(tmp_path)), session=session)
    with pytest.raises(InvalidRequest, match="use euler") as refused:
        generate(wish(eyed, image=picture(tmp_path), sampler="unipc"), session=session)
    assert refused.value.field == "sampler"


def test_unipc_may_be_asked_for(model_dir: MakeModel, ours: Any) -> None:
    found = ours(wish(model_dir(guidance=6.0), sampler="unipc", steps=3))
    assert bool(torch.isfinite(found).all())
