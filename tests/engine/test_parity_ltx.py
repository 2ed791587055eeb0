"""The engine against diffusers' LTX-2 pipelines: same weights, noise and schedule must give the same latents, of the
picture and of the sound, and the same sound.

Both compute in float32; sums in another order (guidance's passes one by one, not as a batch) stay below 1e-5.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from homereel.core.request import Request
from homereel.core.result import Result
from homereel.engine.generate import generate
from homereel.engine.session import Session
from homereel.models.ltx.family import LtxFamily
from homereel.models.ltx.guidance import SKIPPED_BLOCK
from tests.tiny_ltx import MAX_TOKENS, save_tiny_ltx

SIDE, FRAMES, FPS = 64, 25, 8
ALL_GUIDANCE = {
    **{"guidance_scale": 3.0, "stg_scale": 1.0, "modality_scale": 3.0, "guidance_rescale": 0.7},
    **{"audio_guidance_scale": 7.0, "audio_stg_scale": 1.0, "audio_modality_scale": 3.0},
    **{"audio_guidance_rescale": 0.7, "spatio_temporal_guidance_blocks": [28]},
}
ALL_GUIDANCE_LOW = {**ALL_GUIDANCE, "spatio_temporal_guidance_blocks": [1]}
NO_GUIDANCE = {
    **{"guidance_scale": 1.0, "stg_scale": 0.0, "modality_scale": 1.0, "guidance_rescale": 0.0},
    **{"audio_guidance_scale": 1.0, "audio_stg_scale": 0.0, "audio_modality_scale": 1.0},
    **{"audio_guidance_rescale": 0.0, "spatio_temporal_guidance_blocks": None},
}


class Latents(NamedTuple):
    """Normalised, as tokens: (1, S, C) and (1, L, D)."""

    video: Tensor
    audio: Tensor


@pytest.fixture(scope="module")
def full_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2.3, with as many blocks as it takes to reach the one that guidance leaves out."""
    return save_tiny_ltx(tmp_path_factory.mktemp("ltx-2.3"), generation="2.3", distilled=False, num_blocks=29)


@pytest.fixture(scope="module")
def low_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a tenth of the blocks."""
    return save_tiny_ltx(tmp_path_factory.mktemp("ltx-2.3-low"), generation="2.3", distilled=False, num_blocks=3)


@pytest.fixture(scope="module")
def old_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_ltx(tmp_path_factory.mktemp("ltx-2.0"), generation="2.0", distilled=False)


@pytest.fixture(scope="module")
def distilled_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_ltx(tmp_path_factory.mktemp("ltx-2.5"), generation="2.5", distilled=True, upscaler=True)


@pytest.fixture
def ours(session: Session, monkeypatch: pytest.MonkeyPatch) -> Callable[[Request], tuple[Latents, Result]]:
    """The finished latents, as they are handed to the decoder, and the clip."""
    decoded: list[Latents] = []
    original = LtxFamily.decode

    def decode(self: LtxFamily, latents: Tensor, **others: Any) -> Any:
        plan = others["plan"]
        decoded.append(Latents(*self.layout(plan, stage=self.num_stages(plan) - 1).without_later().split(latents)))
        return original(self, latents, **others)

    def make(request: Request) -> tuple[Latents, Result]:
        result = generate(request, session=session)
        return decoded[-1], result

    monkeypatch.setattr(LtxFamily, "decode", decode)
    return make


@pytest.fixture
def low_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guidance leaves out the second block, which a low model has, too."""
    monkeypatch.setitem(SKIPPED_BLOCK, "2.3", 1)


def ask(model: Path, **wishes: Any) -> Request:
    size = {"width": SIDE, "height": SIDE, "num_frames": FRAMES, "fps": FPS}
    words = {"prompt": "a red ball falls", "negative_prompt": "a blue cube", "seed": 7}
    return Request.parse({**words, **size, "model": str(model), **wishes})


def oracle(folder: Path, kind: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler")
    pipeline = kind(**networks(folder), scheduler=scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@cache
def networks(folder: Path) -> dict[str, Any]:
    """All but the scheduler, which is the only part that a clip changes."""
    import diffusers
    import transformers
    from diffusers.pipelines import ltx2

    newer = (folder / "model_index.json").read_text().count("WithBWE") > 0
    gemma4 = "gemma4" in (folder / "text_encoder" / "config.json").read_text()
    reader = (
        transformers.Gemma4UnifiedForConditionalGeneration if gemma4 else transformers.Gemma3ForConditionalGeneration
    )
    classes: dict[str, Any] = {
        "text_encoder": reader,
        "tokenizer": transformers.PreTrainedTokenizerFast,
        "connectors": ltx2.LTX2TextConnectors,
        "transformer": diffusers.LTX2VideoTransformer3DModel,
        "vae": diffusers.AutoencoderKLLTX2Video,
        "audio_vae": diffusers.AutoencoderKLLTX2Audio,
        "vocoder": ltx2.LTX2VocoderWithBWE if newer else ltx2.LTX2Vocoder,
    }
    return {name: made.from_pretrained(folder / name) for name, made in classes.items()}


def call(pipeline: Any, request: Request, **settings: Any) -> Any:
    size = {"width": request.width, "height": request.height, "num_frames": FRAMES, "frame_rate": float(FPS)}
    common = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "generator": torch.Generator().manual_seed(7),
        "max_sequence_length": MAX_TOKENS,
        "output_type": "latent",
        "return_dict": False,
    }
    return pipeline(**{**size, **common, **settings})


def normalised(pipeline: Any, outputs: tuple[Tensor, Tensor]) -> Latents:
    video, audio = outputs
    mean, spread = (part.view(1, -1, 1, 1, 1) for part in (pipeline.vae.latents_mean, pipeline.vae.latents_std))
    tokens = audio.transpose(1, 2).flatten(2)
    return Latents(
        video=((video - mean) / spread).flatten(2).transpose(1, 2),
        audio=(tokens - pipeline.audio_vae.latents_mean) / pipeline.audio_vae.latents_std,
    )


def assert_same(found: Latents, expected: Latents) -> None:
    torch.testing.assert_close(found.video, expected.video, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.audio, expected.audio, atol=1e-5, rtol=0)


def save_picture(path: Path, *, seed: int, side: int = SIDE, flat: bool = False) -> Path:
    from PIL import Image

    values = np.random.default_rng(seed).integers(0, 256, (1, 1, 3) if flat else (side, side, 3), np.uint8)
    Image.fromarray(np.broadcast_to(values, (side, side, 3)).copy()).save(path)
    return path


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(("guidance", "settings"), [(3.0, ALL_GUIDANCE_LOW), (1.0, NO_GUIDANCE)], ids=["all", "none"])
@pytest.mark.usefixtures("low_block")
def test_text_to_video_equals_ltx2_pipeline(
    low_model: Path, ours: Any, guidance: float, settings: dict[str, Any], steps: int
) -> None:
    from diffusers import LTX2Pipeline

    request = ask(low_model, guidance=guidance, steps=steps)
    pipeline = oracle(low_model, LTX2Pipeline)
    if steps == 1:  # with one step the scheduler divides 0 by 0 where it draws the times out
        pipeline.scheduler.register_to_config(shift_terminal=None)
    theirs = call(pipeline, request, num_inference_steps=steps, **settings)
    found, _ = ours(request)
    assert found.video.shape == (1, 16, 4)
    assert found.audio.shape == (1, 78, 4)
    assert_same(found, normalised(pipeline, theirs))


def test_the_block_that_guidance_leaves_out_is_that_of_ltx2_pipeline(full_model: Path, ours: Any) -> None:
    """The published number, in a network that has as many blocks."""
    from diffusers import LTX2Pipeline

    wish = ask(full_model, guidance=3.0, steps=2)
    pipeline = oracle(full_model, LTX2Pipeline)
    theirs = call(pipeline, wish, num_inference_steps=2, **ALL_GUIDANCE)
    assert_same(ours(wish)[0], normalised(pipeline, theirs))


@pytest.mark.parametrize("image", [False, True])
def test_the_first_generation_equals_its_pipelines(old_model: Path, ours: Any, tmp_path: Path, image: bool) -> None:
    """Its transformer cannot leave attention out, and tells picture and sound their own times."""
    from diffusers import LTX2ImageToVideoPipeline, LTX2Pipeline
    from PIL import Image

    wishes, given = {}, {}
    if image:
        wishes["image"] = save_picture(tmp_path / "first.png", seed=3)
        given["image"] = Image.open(wishes["image"])
    request = ask(old_model, guidance=4.0, steps=3, **wishes)
    pipeline = oracle(old_model, LTX2ImageToVideoPipeline if image else LTX2Pipeline)
    settings = {**ALL_GUIDANCE, "guidance_scale": 4.0, "spatio_temporal_guidance_blocks": [29]}
    theirs = call(pipeline, request, num_inference_steps=3, use_cross_timestep=False, **settings, **given)
    assert_same(ours(request)[0], normalised(pipeline, theirs))


@pytest.mark.parametrize(("guidance", "settings"), [(3.0, ALL_GUIDANCE_LOW), (1.0, NO_GUIDANCE)], ids=["all", "none"])
@pytest.mark.usefixtures("low_block")
def test_first_frame_equals_ltx2_image_to_video_pipeline(
    low_model: Path, ours: Any, tmp_path: Path, guidance: float, settings: dict[str, Any]
) -> None:
    from diffusers import LTX2ImageToVideoPipeline
    from PIL import Image

    path = save_picture(tmp_path / "first.png", seed=3)
    request = ask(low_model, guidance=guidance, steps=3, image=path)
    pipeline = oracle(low_model, LTX2ImageToVideoPipeline)
    theirs = call(pipeline, request, num_inference_steps=3, image=Image.open(path), **settings)
    assert_same(ours(request)[0], normalised(pipeline, theirs))


def exact_pipeline(frames: dict[int, int]) -> Any:
    """The oracle knows only every eighth frame as a place for pictures: `frames` says which one is really meant."""
    from diffusers import LTX2ConditionPipeline

    class Exact(LTX2ConditionPipeline):  # type: ignore[misc]  # the library is not typed
        def _prepare_keyframe_coords(self, *args: Any, **others: Any) -> Tensor:
            others["pixel_frame_idx"] = frames.get(others["pixel_frame_idx"], others["pixel_frame_idx"])
            places: Tensor = super()._prepare_keyframe_coords(*args, **others)
            return places

    return Exact


@pytest.mark.parametrize(
    ("frames", "places"),
    [((0, 9, 17), {}), ((0, 9, 24), {17: 24}), ((9,), {}), ((5, 24), {9: 5, 17: 24})],
    ids=["every eighth", "first, middle, last", "middle alone", "no first"],
)
@pytest.mark.usefixtures("low_block")
def test_keyframes_equal_ltx2_condition_pipeline(
    low_model: Path, ours: Any, tmp_path: Path, frames: tuple[int, ...], places: dict[int, int]
) -> None:
    from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition
    from PIL import Image

    meant = {exact: place for place, exact in places.items()}
    pictures = {frame: save_picture(tmp_path / f"{frame}.png", seed=frame) for frame in frames}
    conditions = [
        LTX2VideoCondition(frames=Image.open(path), index=(meant.get(frame, frame) + 7) // 8)
        for frame, path in pictures.items()
    ]
    wishes: dict[str, Any] = {"keyframes": [{"image": pictures[f], "frame": f} for f in frames if f not in (0, 24)]}
    wishes |= {name: pictures[frame] for name, frame in (("image", 0), ("last", 24)) if frame in pictures}
    request = ask(low_model, guidance=3.0, steps=3, **wishes)
    pipeline = oracle(low_model, exact_pipeline(places))
    theirs = call(pipeline, request, num_inference_steps=3, conditions=conditions, **ALL_GUIDANCE_LOW)
    assert_same(ours(request)[0], normalised(pipeline, theirs))


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_distilled_times_equal_ltx2_pipeline(distilled_model: Path, ours: Any, guidance: float) -> None:
    from diffusers import LTX2Pipeline
    from diffusers.pipelines.ltx2.utils import DISTILLED_SIGMA_VALUES

    request = ask(distilled_model, guidance=guidance, steps=8)
    pipeline = oracle(distilled_model, LTX2Pipeline)
    settings = {**NO_GUIDANCE, "guidance_scale": guidance, "audio_guidance_scale": guidance}
    theirs = call(pipeline, request, num_inference_steps=8, sigmas=DISTILLED_SIGMA_VALUES, **settings)
    assert_same(ours(request)[0], normalised(pipeline, theirs))


@pytest.mark.parametrize("frames", [(), (0,), (0, 9, 24)], ids=["words", "first", "first, middle, last"])
def test_two_stages_equal_the_pipelines_in_turn(
    distilled_model: Path, ours: Any, tmp_path: Path, frames: tuple[int, ...]
) -> None:
    """Half the size, upscaled, noised again and refined, with pictures given at both sizes.

    Pictures are of one colour, because the oracle makes them smaller in another way.
    """
    pictures = {f: save_picture(tmp_path / f"{f}.png", seed=f, side=2 * SIDE, flat=True) for f in frames}
    wishes: dict[str, Any] = {"keyframes": [{"image": pictures[f], "frame": f} for f in frames if f not in (0, 24)]}
    wishes |= {name: pictures[frame] for name, frame in (("image", 0), ("last", 24)) if frame in pictures}
    request = ask(distilled_model, width=2 * SIDE, height=2 * SIDE, steps=8, **wishes)
    found, result = ours(request)
    assert result.frames.shape == (FRAMES, 2 * SIDE, 2 * SIDE, 3)
    assert_same(found, two_stages(distilled_model, request, pictures))


def two_stages(folder: Path, request: Request, pictures: dict[int, Path]) -> Latents:
    """As diffusers' documentation has it; a first frame alone is given to the pipeline that is made for it, and in
    the second stage to the one that takes pictures anew instead of keeping the upscaled frame.
    """
    from diffusers import LTX2ImageToVideoPipeline, LTX2Pipeline
    from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition
    from diffusers.pipelines.ltx2.utils import DISTILLED_SIGMA_VALUES, STAGE_2_DISTILLED_SIGMA_VALUES
    from PIL import Image

    placed = {
        "conditions": [
            LTX2VideoCondition(frames=Image.open(path), index=({24: 17}.get(frame, frame) + 7) // 8)
            for frame, path in pictures.items()
        ]
    }
    steps: list[tuple[Any, dict[str, Any]]] = [(exact_pipeline({17: 24}), placed)] * 2
    if not pictures:
        steps = [(LTX2Pipeline, {})] * 2
    elif tuple(pictures) == (0,):
        steps[0] = (LTX2ImageToVideoPipeline, {"image": Image.open(pictures[0])})
    generator = torch.Generator().manual_seed(7)
    first, second = (oracle(folder, kind) for kind, _ in steps)
    video, audio = call(
        first, request, width=SIDE, height=SIDE, generator=generator, num_inference_steps=8,
        sigmas=DISTILLED_SIGMA_VALUES, **NO_GUIDANCE, **steps[0][1],
    )  # fmt: skip
    again = STAGE_2_DISTILLED_SIGMA_VALUES
    outputs = call(
        second, request, generator=generator, num_inference_steps=3, sigmas=again, noise_scale=again[0],
        latents=upscaled(folder, first, video), audio_latents=audio, **NO_GUIDANCE, **steps[1][1],
    )  # fmt: skip
    return normalised(second, outputs)


def upscaled(folder: Path, pipeline: Any, video: Tensor) -> Tensor:
    from diffusers import LTX2LatentUpsamplePipeline
    from diffusers.pipelines.ltx2 import LTX2LatentUpsamplerModel

    network = LTX2LatentUpsamplerModel.from_pretrained(folder / "latent_upsampler")
    upsample = LTX2LatentUpsamplePipeline(vae=pipeline.vae, latent_upsampler=network)
    large: Tensor = upsample(latents=video, output_type="latent", return_dict=False)[0]
    return large


@pytest.mark.parametrize("model", ["old_model", "low_model"])
def test_frames_and_sound_equal_ltx2_pipeline(model: str, ours: Any, request: pytest.FixtureRequest) -> None:
    """From both kinds of vocoder."""
    from diffusers import LTX2Pipeline

    folder: Path = request.getfixturevalue(model)
    wish = ask(folder, guidance=1.0, steps=2)
    pipeline = oracle(folder, LTX2Pipeline)
    video, audio = call(pipeline, wish, num_inference_steps=2, output_type="np", **NO_GUIDANCE)
    _, result = ours(wish)
    difference = np.abs((video[0] * 255).round().astype(int) - result.frames)
    assert int(difference.max()) <= 1, "sums in another order may round to the next level, no further"
    assert result.sound is not None
    assert result.sound.rate == pipeline.vocoder.config.output_sampling_rate
    expected = audio[0].T.numpy()
    assert result.sound.seconds == pytest.approx(FRAMES / FPS, abs=0.05)
    # Latents may differ by 1e-5, which decoder and vocoder amplify.
    np.testing.assert_allclose(result.sound.samples, expected[: result.sound.num_samples], atol=1e-4, rtol=0)
    assert np.abs(expected).max() > 0.01, "there is something to hear"
