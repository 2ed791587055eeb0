"""SkyReels-V2 against diffusers' own pipelines: one window, several, a first picture; and what windows must keep."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from homereel.core.events import Progress
from homereel.core.request import Request
from homereel.engine.generate import generate
from homereel.engine.session import Session
from homereel.engine.state import DenoiseState
from homereel.models.skyreels import family as skyreels
from homereel.models.skyreels.facts import OVERLAP_FRAMES
from homereel.models.skyreels.family import KNOWN_NOISE, SkyreelsFamily, known_noise
from tests.tiny_models import MAX_TOKENS
from tests.tiny_skyreels import WINDOW_FRAMES, save_tiny_skyreels

SIZE = {"width": 32, "height": 48}
# The same sums in float32, in another order, over a few steps of a network of two layers.
EQUAL: dict[str, Any] = {"atol": 1e-5, "rtol": 0}
# 7 latent frames, then 2 new ones a window behind 5 carried: 41 frames are 7 + 2 + 2.
THREE_WINDOWS, CARRIED = 41, 5


class Ours(Protocol):
    def __call__(self, request: Request, **options: Any) -> Tensor: ...


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_skyreels(tmp_path_factory.mktemp("tiny-skyreels"))


@pytest.fixture
def ask(folder: Path) -> Callable[..., Request]:
    def make(**wishes: Any) -> Request:
        settled = {**SIZE, "prompt": "a red ball falls", "negative_prompt": "a cube", "model": str(folder), "seed": 7}
        return Request.parse({**settled, "steps": 4, "num_frames": WINDOW_FRAMES, **wishes})

    return make


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(3).integers(0, 256, (48, 32, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "first.png")
    return tmp_path / "first.png"


@pytest.fixture
def ours(session: Session, monkeypatch: pytest.MonkeyPatch) -> Ours:
    """Our finished latents, as they are handed to the decoder."""
    decoded: list[Tensor] = []
    original = SkyreelsFamily.decode

    def decode(self: SkyreelsFamily, latents: Tensor, **others: Any) -> Any:
        decoded.append(latents)
        return original(self, latents, **others)

    def make(request: Request, **options: Any) -> Tensor:
        generate(request, session=session, **options)
        return decoded[-1]

    monkeypatch.setattr(SkyreelsFamily, "decode", decode)
    return make


def theirs(request: Request, folder: Path, *, noisy_from: int | None = None, mended: bool = True) -> Tensor:
    """The pipeline's latents, with two of its ways mended.

    It draws the noise of known frames without a seed, so it is given ours. And it hands its solvers a view of the
    latents that it then writes over, so that the first correction starts from the wrong sample: they get a copy.
    `noisy_from` is the first window whose known frames are shown with noise.
    """
    from diffusers import UniPCMultistepScheduler

    pipeline = _pipeline(folder, with_picture=request.image is not None)
    picture = {"image": Image.open(request.image)} if request.image else {}
    steps = request.steps or 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn_like", _draw_known_noise(first_stage=noisy_from or 0, steps=steps))
        if mended:
            step = UniPCMultistepScheduler.step
            patch.setattr(
                UniPCMultistepScheduler,
                "step",
                lambda self, output, time, sample, **others: step(self, output, time, sample.clone(), **others),
            )
        latents: Tensor = pipeline(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            **SIZE,
            **picture,
            num_frames=request.num_frames,
            num_inference_steps=steps,
            guidance_scale=request.guidance or 3.0,
            max_sequence_length=MAX_TOKENS,
            generator=torch.Generator().manual_seed(7),
            overlap_history=OVERLAP_FRAMES,
            base_num_frames=WINDOW_FRAMES,
            addnoise_condition=0 if noisy_from is None else KNOWN_NOISE,
            fps=int(request.fps or 24),
            output_type="latent",
        ).frames
    return latents


@cache
def _pipeline(folder: Path, *, with_picture: bool) -> Any:
    import diffusers

    kind = "SkyReelsV2DiffusionForcing" + ("ImageToVideo" if with_picture else "") + "Pipeline"
    pipeline = getattr(diffusers, kind).from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _draw_known_noise(*, first_stage: int, steps: int) -> Callable[[Tensor], Tensor]:
    turns = ((stage, step) for stage in count(first_stage) for step in range(steps))

    def draw(like: Tensor) -> Tensor:
        stage, step = next(turns)
        return known_noise(like.shape, seed=7, stage=stage, step=step)

    return draw


def test_one_step_equals_the_pipeline_as_it_is(ask: Callable[..., Request], folder: Path, ours: Ours) -> None:
    """Where nothing is corrected yet, nothing needs mending; only the known frames' noise is ours."""
    request = ask(num_frames=THREE_WINDOWS, steps=1, guidance=4.0)
    torch.testing.assert_close(ours(request), theirs(request, folder, noisy_from=1, mended=False), **EQUAL)


@pytest.mark.parametrize(("guidance", "fps", "steps"), [(1.0, 24, 4), (4.0, 24, 6), (4.0, 16, 4)])
def test_one_window_equals_the_pipeline(  # noqa: PLR0917
    ask: Callable[..., Request], folder: Path, ours: Ours, guidance: float, fps: int, steps: int
) -> None:
    request = ask(guidance=guidance, fps=fps, steps=steps)
    found = ours(request)
    assert found.shape == (1, 4, 7, 6, 4)
    torch.testing.assert_close(found, theirs(request, folder), **EQUAL)


def test_the_pace_matters_and_a_short_clip_is_one_window(ask: Callable[..., Request], folder: Path, ours: Ours) -> None:
    slow, fast = ours(ask(num_frames=9, fps=16)), ours(ask(num_frames=9))
    assert float((slow - fast).abs().max()) > 1e-3
    torch.testing.assert_close(fast, theirs(ask(num_frames=9), folder), **EQUAL)


@pytest.mark.parametrize(
    ("num_frames", "latent_frames"), [(THREE_WINDOWS, 11), (37, 10)], ids=["three whole windows", "a short last one"]
)
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_several_windows_equal_the_pipeline(  # noqa: PLR0917
    ask: Callable[..., Request], folder: Path, ours: Ours, num_frames: int, latent_frames: int, guidance: float
) -> None:
    request = ask(num_frames=num_frames, guidance=guidance)
    found = ours(request)
    assert found.shape == (1, 4, latent_frames, 6, 4)
    torch.testing.assert_close(found, theirs(request, folder, noisy_from=1), **EQUAL)


def test_a_transformer_that_is_not_told_the_pace_equals_the_pipeline(
    ask: Callable[..., Request], ours: Ours, tmp_path: Path
) -> None:
    untold = save_tiny_skyreels(tmp_path / "untold", inject_sample_info=False)
    request = ask(model=str(untold), num_frames=33)
    torch.testing.assert_close(ours(request), theirs(request, untold, noisy_from=1), **EQUAL)


def test_a_first_picture_equals_the_pipeline(
    ask: Callable[..., Request], folder: Path, ours: Ours, picture: Path
) -> None:
    request = ask(image=picture, guidance=4.0)
    torch.testing.assert_close(ours(request), theirs(request, folder), **EQUAL)


def test_a_first_picture_of_a_long_clip_equals_the_pipeline(
    ask: Callable[..., Request], folder: Path, ours: Ours, picture: Path
) -> None:
    request = ask(image=picture, guidance=4.0, num_frames=THREE_WINDOWS)
    torch.testing.assert_close(ours(request), theirs(request, folder, noisy_from=0), **EQUAL)


def test_carried_latents_are_those_of_the_window_before(
    ask: Callable[..., Request], session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Tensor] = []
    left: list[Tensor] = []
    seen: dict[int, list[Tensor]] = {}
    begin, finish, velocity = SkyreelsFamily.begin, SkyreelsFamily.finish, SkyreelsFamily.velocity

    def spy_begin(self: SkyreelsFamily, *given: Any, **others: Any) -> Tensor:
        begun.append(begin(self, *given, **others))
        return begun[-1].clone()

    def spy_finish(self: SkyreelsFamily, *given: Any, **others: Any) -> Tensor:
        left.append(finish(self, *given, **others))
        return left[-1].clone()

    def spy_velocity(self: SkyreelsFamily, denoiser: Any, latents: Tensor, **others: Any) -> Tensor:
        seen.setdefault(others["time"].stage, []).append(latents)
        return velocity(self, denoiser, latents, **others)

    monkeypatch.setattr(SkyreelsFamily, "begin", spy_begin)
    monkeypatch.setattr(SkyreelsFamily, "finish", spy_finish)
    monkeypatch.setattr(SkyreelsFamily, "velocity", spy_velocity)
    generate(ask(num_frames=THREE_WINDOWS, steps=6), session=session)
    assert [film.shape[2] for film in left] == [7, 9, 11]
    for before, start, after in zip(left[:2], begun[1:], left[1:], strict=True):
        assert torch.equal(start[:, :, :CARRIED], before[:, :, -CARRIED:])
        assert torch.equal(after[:, :, : before.shape[2]], before), "what is done is not touched again"
    for stage in (1, 2):
        for latents in seen[stage]:
            # A solver multiplies and adds even where nothing moves: a rounding or two of float32 each step.
            torch.testing.assert_close(latents[:, :, :CARRIED], left[stage - 1][:, :, -CARRIED:], atol=0, rtol=2e-6)


@pytest.mark.parametrize("sampler", ["unipc", "euler"])
def test_a_clip_taken_up_in_its_second_window_ends_in_the_same_bits(
    ask: Callable[..., Request], session: Session, tmp_path: Path, sampler: str
) -> None:
    request, states = ask(num_frames=THREE_WINDOWS, sampler=sampler), list[DenoiseState]()
    undisturbed = generate(request, session=session, on_state=states.append)
    assert [(state.stage, state.step) for state in states] == [(s, t) for s in range(3) for t in range(1, 5)]
    with Session() as another:
        for state in (states[3], states[5], states[7]):  # after a window's end, amid the second, at its end
            state.save(tmp_path / "state")
            resumed = generate(request, session=another, resume=DenoiseState.load(tmp_path / "state"))
            assert resumed.frames_sha256 == undisturbed.frames_sha256, f"window {state.stage}, step {state.step}"


def test_a_picture_is_kept_when_a_clip_is_taken_up(
    ask: Callable[..., Request], session: Session, picture: Path
) -> None:
    request, states = ask(num_frames=33, image=picture), list[DenoiseState]()
    undisturbed = generate(request, session=session, on_state=states.append)
    for state in (states[1], states[5]):
        assert generate(request, session=session, resume=state).frames_sha256 == undisturbed.frames_sha256


def test_a_long_clip_from_words_to_frames(ask: Callable[..., Request], session: Session) -> None:
    steps: list[int] = []
    shapes: list[tuple[int, ...]] = []

    def on_progress(told: Progress) -> None:
        if told.stage == "denoise" and told.preview is not None:
            assert told.num_steps == 12, "three windows of four steps"
            steps.append(told.step)
            shapes.append(told.preview().shape)

    result = generate(ask(num_frames=None, seconds=1.5), session=session, on_progress=on_progress)
    assert result.frames.shape == (37, 48, 32, 3), "1.5 s at 24 frames a second, and one"
    assert steps == list(range(1, 13))
    assert set(shapes) == {(8, 24, 16, 3)}, "each window can be looked at while it is made"


def test_a_broken_rule_shows(ask: Callable[..., Request], folder: Path, ours: Ours) -> None:
    """Parity of several windows hangs on the noise of known frames: without it the latents are others."""
    request = ask(num_frames=33)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(skyreels, "KNOWN_NOISE", 0)
        clean = ours(request)
    torch.testing.assert_close(clean, theirs(request, folder), **EQUAL)
    assert float((clean - ours(request)).abs().max()) > 1e-3
