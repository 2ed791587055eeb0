"""Students of rCM through the engine, against the published formulas written out here in float64."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from homereel.core.errors import InvalidRequest
from homereel.core.request import Request
from homereel.engine.generate import generate, make_plan
from homereel.engine.replay import replay
from homereel.engine.session import Session
from homereel.engine.state import DenoiseState
from homereel.models.wan.family import WanFamily
from tests.engine.conftest import MakeRequest
from tests.tiny_models import MAX_TOKENS, save_tiny_kind

SIZE = {"width": 32, "height": 48, "num_frames": 9}
SHAPE = (1, 4, 3, 6, 4)
# The network computes in float32; what differs is how sums are ordered, if anything does.
RELATIVE = 1e-5

OurLatents = Callable[..., Tensor]


@pytest.fixture
def ours(session: Session, monkeypatch: pytest.MonkeyPatch) -> OurLatents:
    """Our finished latents, as they are handed to the decoder."""
    decoded: list[Tensor] = []
    original = WanFamily.decode

    def decode(self: WanFamily, latents: Tensor, **others: Any) -> Any:
        decoded.append(latents)
        return original(self, latents, **others)

    def make(request: Request, **options: Any) -> Tensor:
        generate(request, session=session, **options)
        return decoded[-1]

    monkeypatch.setattr(WanFamily, "decode", decode)
    return make


@pytest.fixture(scope="module")
def experts_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An A14B that starts from a picture, whose experts change where those of TurboWan 2.2 do."""
    folder = save_tiny_kind(tmp_path_factory.mktemp("student"), "i2v-a14b")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "boundary_ratio": 0.9}))
    return folder


@pytest.fixture(scope="module")
def published(tiny_model_dir: Path) -> Published:
    return Published(tiny_model_dir)


class Published:
    """rCM's sampling as TurboDiffusion has it, with diffusers' parts of a model."""

    def __init__(self, folder: Path) -> None:
        from diffusers import WanPipeline

        self.pipeline: Any = WanPipeline.from_pretrained(folder)
        self.experts: list[str] = []  # those that computed, a word a step

    @torch.inference_mode()
    def latents(
        self, taus: Sequence[float], *, prompt: str, seed: int, stochastic: bool = True, image: Path | None = None
    ) -> np.ndarray[Any, Any]:
        words = self.pipeline.encode_prompt(
            prompt, do_classifier_free_guidance=False, max_sequence_length=MAX_TOKENS
        )[0]  # fmt: skip
        self.experts.clear()
        beside = [] if image is None else [self._channels(image)]
        generator = torch.Generator().manual_seed(seed)
        x = taus[0] * torch.randn(SHAPE, generator=generator).numpy().astype(np.float64)
        for tau, following in itertools.pairwise(taus):
            expert = "transformer_2" if image is not None and tau < 0.9 else "transformer"
            self.experts.append(expert)
            seen = torch.cat([torch.from_numpy(x).float(), *beside], dim=1)
            told = torch.tensor([1000 * tau], dtype=torch.bfloat16).float()
            v = getattr(self.pipeline, expert)(seen, told, words, return_dict=False)[0].double().numpy()
            if stochastic:
                noise = torch.randn(SHAPE, generator=generator).numpy()
                x = (1 - following) * (x - tau * v) + following * noise
            else:
                x = x - (tau - following) * v
        return x

    def _channels(self, image: Path) -> Tensor:
        """A mask that is 1 on the first latent frame, and the latents of the picture before frames of grey."""
        vae = self.pipeline.vae
        video = torch.zeros(1, 3, SIZE["num_frames"], SIZE["height"], SIZE["width"])
        video[0, :, 0] = torch.from_numpy(np.asarray(Image.open(image)) / 127.5 - 1).permute(2, 0, 1)
        mean, spread = (
            torch.tensor(part).view(1, -1, 1, 1, 1) for part in (vae.config.latents_mean, vae.config.latents_std)
        )
        latents = (vae.encode(video).latent_dist.mode() - mean) / spread
        mask = torch.zeros(1, 4, *SHAPE[2:])
        mask[:, :, 0] = 1
        return torch.cat([mask, latents], dim=1)


def published_taus(num_steps: int, *, sigma_max: float) -> list[float]:
    angles = np.array([math.atan(sigma_max), *[1.5, 1.4, 1.0][: num_steps - 1], 0])
    taus: list[float] = (np.sin(angles) / (np.cos(angles) + np.sin(angles))).tolist()
    return taus


def assert_alike(found: Tensor, expected: np.ndarray[Any, Any]) -> None:
    assert found.shape == expected.shape
    assert found.dtype == torch.float32
    assert float(np.abs(found.double().numpy() - expected).max() / np.abs(expected).max()) <= RELATIVE


@pytest.mark.parametrize("sampler", ["rcm", "rcm-ode"])
@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_words_to_video(tiny: MakeRequest, published: Published, ours: OurLatents, sampler: str, steps: int) -> None:
    request = tiny(**SIZE, sampler=sampler, steps=steps)
    expected = published.latents(
        published_taus(steps, sigma_max=80), prompt=request.prompt, seed=7, stochastic=sampler == "rcm"
    )
    assert_alike(ours(request), expected)


def test_steps_and_guidance_are_those_of_students(tiny: MakeRequest, session: Session) -> None:
    plan = make_plan(tiny(sampler="rcm"), session=session)
    assert (plan.steps, plan.guidance, plan.sigmas) == (4, 1.0, tuple(published_taus(4, sigma_max=80)))
    assert any("not known to be a student" in warning for warning in plan.warnings)


@pytest.mark.parametrize("wishes", [{"sigma_max": 1600}, {"sigmas": (0.99, 0.9, 0.7, 0.5, 0.2, 0)}])
def test_times_of_ones_own(tiny: MakeRequest, published: Published, ours: OurLatents, wishes: dict[str, Any]) -> None:
    request = tiny(**SIZE, sampler="rcm", **wishes)
    taus = wishes.get("sigmas") or published_taus(4, sigma_max=1600)
    assert_alike(ours(request), published.latents(taus, prompt=request.prompt, seed=7))


def test_times_of_ones_own_are_for_any_sampler(tiny: MakeRequest, ours: OurLatents) -> None:
    """Euler's own times, given one by one, are the same clip to the bit."""
    from homereel.sampling import euler_schedule

    own = tuple(euler_schedule(3, shift=2.0).sigmas.tolist())
    given = ours(tiny(sampler="euler", sigmas=own))
    assert torch.equal(given, ours(tiny(sampler="euler", steps=3, shift=2.0)))


def test_a_clip_is_made_again_from_its_file(tiny: MakeRequest, session: Session, tmp_path: Path) -> None:
    generate(tiny(sampler="rcm", sigma_max=150, steps=3), session=session).save(tmp_path / "clip.mp4")
    assert replay(tmp_path / "clip.mp4", session=session).verdict == "exact"


@pytest.fixture(scope="module")
def published_experts(experts_dir: Path) -> Published:
    return Published(experts_dir)


@pytest.mark.parametrize(
    ("taus", "low_noise_steps"),
    [
        (published_taus(4, sigma_max=200), 2),
        (published_taus(3, sigma_max=200), 1),
        (published_taus(2, sigma_max=200), 0),
        ([0.99, 0.899, 0.0], 1),  # told as 900, and yet below the boundary
    ],
)
def test_picture_to_video_with_two_experts(  # noqa: PLR0917
    experts_dir: Path,
    published_experts: Published,
    ours: OurLatents,
    tmp_path: Path,
    taus: list[float],
    low_noise_steps: int,
) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (SIZE["height"], SIZE["width"], 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "first.png")
    published, steps = published_experts, len(taus) - 1
    expected = published.latents(taus, prompt="a red ball falls", seed=7, image=tmp_path / "first.png")
    assert published.experts == ["transformer"] * (steps - low_noise_steps) + ["transformer_2"] * low_noise_steps
    own = {"sigmas": taus} if taus[1] == 0.899 else {"steps": steps}
    request = Request.parse(
        {"prompt": "a red ball falls", "model": str(experts_dir), "seed": 7, "sampler": "rcm", **SIZE, **own}
    )
    assert_alike(ours(request.replace(image=tmp_path / "first.png")), expected)


@pytest.mark.parametrize("sampler", ["rcm", "rcm-ode"])
def test_the_same_seed_gives_the_same_bits_also_when_taken_up_again(
    tiny: MakeRequest, ours: OurLatents, tmp_path: Path, sampler: str
) -> None:
    request, states = tiny(sampler=sampler), list[DenoiseState]()
    undisturbed = ours(request, on_state=states.append)
    assert [state.step for state in states] == [1, 2, 3, 4]
    for state in states:
        assert state.solver.sample.dtype == torch.float64
        state.save(tmp_path / "state")
        assert torch.equal(ours(request, resume=DenoiseState.load(tmp_path / "state")), undisturbed), state.step
    assert not torch.equal(ours(request.replace(seed=8)), undisturbed)
    moved = not torch.equal(states[0].generator, states[1].generator)
    assert moved == (sampler == "rcm"), "only fresh noise takes from the generator"


def test_a_student_says_of_itself_how_it_is_sampled(tiny_model_dir: Path, tmp_path: Path, session: Session) -> None:
    folder = Path(shutil.copytree(tiny_model_dir, tmp_path / "student"))
    card = json.loads((folder / "homereel.json").read_text())
    card["defaults"] |= {"steps": 3, "guidance": 1, "sampler": "rcm", "sigma_max": 120}
    (folder / "homereel.json").write_text(json.dumps(card))
    request = Request.parse({"prompt": "a red ball falls", "model": str(folder), "seed": 7})
    plan = make_plan(request, session=session)
    assert (plan.steps, plan.sampler, plan.warnings) == (3, "rcm", ())
    assert plan.sigmas == tuple(published_taus(3, sigma_max=120))
    with pytest.raises(InvalidRequest, match=r"1 to 4 steps, not 6; .*--sigmas") as refused:
        make_plan(request.replace(steps=6), session=session)
    assert refused.value.field == "steps"


def test_footage_is_made_anew_from_the_middle(
    tiny: MakeRequest, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At half strength a student begins at its third time, with that share of noise over the footage."""
    from homereel import media

    begun: list[Tensor] = []
    original = WanFamily.begin

    def begin(self: WanFamily, stage: int, noise: Any, **others: Any) -> Tensor:
        begun.append(original(self, stage, noise, **others))
        footage = others["conditions"].footage
        tau = published_taus(4, sigma_max=80)[2]
        torch.testing.assert_close(begun[-1], (1 - tau) * footage + tau * noise[0], atol=1e-6, rtol=0)
        return begun[-1]

    monkeypatch.setattr(WanFamily, "begin", begin)
    frames = np.random.default_rng(11).integers(0, 256, (5, 32, 32, 3), np.uint8)
    (tmp_path / "footage").mkdir()
    video = media.write_clip(frames, tmp_path / "footage", fps=8)
    generate(tiny(sampler="rcm", video=video, strength=0.5), session=session)
    assert len(begun) == 1


def test_a_student_can_be_looked_at_on_its_way(tiny: MakeRequest, session: Session) -> None:
    shown: list[Any] = []
    generate(
        tiny(sampler="rcm"),
        session=session,
        on_progress=lambda told: shown.append(told.preview()) if told.preview else None,
    )
    assert len(shown) == 4
    assert all(frames.dtype == np.uint8 and frames.ndim == 4 for frames in shown)
