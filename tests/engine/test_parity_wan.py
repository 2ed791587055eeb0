"""Every other Wan against diffusers' own pipelines: pictures as channels, two experts, footage, VACE."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from homereel import media
from homereel.core.errors import InvalidRequest, UnsupportedInput
from homereel.core.request import Request
from homereel.engine.generate import generate, make_plan
from homereel.engine.session import Session
from homereel.engine.state import DenoiseState
from homereel.media.clip_source import FOLDER_FPS
from homereel.models.wan.family import WanFamily
from tests.tiny_models import MAX_TOKENS, save_tiny_kind, save_tiny_model

SIZE = {"width": 32, "height": 48, "num_frames": 9}
EQUAL: dict[str, Any] = {"atol": 1e-5, "rtol": 0}

MakeKind = Callable[[str], Path]


@pytest.fixture(scope="module")
def kind_dir(tmp_path_factory: pytest.TempPathFactory) -> MakeKind:
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            folder = tmp_path_factory.mktemp(f"tiny-{kind}")
            made[kind] = save_tiny_model(folder, first_frame=False) if kind == "t2v" else save_tiny_kind(folder, kind)
        return made[kind]

    return make


@pytest.fixture
def ours(session: Session, monkeypatch: pytest.MonkeyPatch) -> Callable[[Request], Tensor]:
    """Our finished latents, as they are handed to the decoder."""
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


def picture(folder: Path, name: str, *, seed: int) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 32, 3), np.uint8)
    Image.fromarray(pixels).save(folder / name)
    return folder / name


def footage(folder: Path, *, num_frames: int = 9) -> Path:
    """PNG frames, so that nothing is lost between what we read and what the oracle is given."""
    frames = np.random.default_rng(11).integers(0, 256, (num_frames, 48, 32, 3), np.uint8)
    (folder / "footage").mkdir()
    return media.write_clip(frames, folder / "footage", fps=FOLDER_FPS)


def frames_of(path: Path) -> list[Image.Image]:
    return [Image.fromarray(frame) for frame in media.read_clip(path).frames]


def theirs(kind: Any, folder: Path, request: Request, **inputs: Any) -> Tensor:
    latents: Tensor = oracle(kind, folder)(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        width=32,
        height=48,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance,
        max_sequence_length=MAX_TOKENS,
        generator=torch.Generator().manual_seed(7),
        output_type="latent",
        **inputs,
    ).frames
    return latents


@cache
def oracle(kind: Any, folder: Path) -> Any:
    """Each clip sets its scheduler anew, and changes nothing else."""
    pipeline = kind.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def wish(folder: Path, **fields: Any) -> Request:
    common = {"prompt": "a red ball falls", "negative_prompt": "a cube", "seed": 7, "steps": 4, "guidance": 4.0}
    return Request.parse({**common, **SIZE, "model": str(folder), **fields})


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("kind", ["i2v", "flf2v", "i2v-a14b"])
@pytest.mark.parametrize("ends", [("image",), ("image", "last")])
def test_pictures_as_channels(  # noqa: PLR0917
    kind_dir: MakeKind, ours: Any, tmp_path: Path, kind: str, ends: tuple[str, ...], guidance: float
) -> None:
    from diffusers import WanImageToVideoPipeline

    if (kind, ends) in {("i2v", ("image", "last")), ("flf2v", ("image",))}:
        pytest.skip("this model was not made for it, which the next test shows")
    files = {name: picture(tmp_path, f"{name}.png", seed=seed) for seed, name in enumerate(ends)}
    request = wish(kind_dir(kind), guidance=guidance, **files)
    names = {"image": "image", "last": "last_image"}
    given = {names[name]: Image.open(file) for name, file in files.items()}
    expected = theirs(WanImageToVideoPipeline, kind_dir(kind), request, num_frames=9, **given)
    torch.testing.assert_close(ours(request), expected, **EQUAL)


@pytest.mark.parametrize(
    ("kind", "ends", "message"),
    [
        ("i2v", (), "starts from a first picture; give one with --image"),
        ("i2v", ("image", "last"), "takes no last picture; models that do: .*wan2.1-flf2v-14b"),
        ("flf2v", ("image",), "starts from a last picture"),
        ("t2v", ("image",), "takes no picture; models that do: pocket, "),
    ],
)
def test_a_wan_says_which_pictures_it_takes(  # noqa: PLR0917
    kind_dir: MakeKind, session: Session, tmp_path: Path, kind: str, ends: tuple[str, ...], message: str
) -> None:
    files = {name: picture(tmp_path, f"{name}.png", seed=0) for name in ends}
    with pytest.raises(UnsupportedInput, match=message):
        make_plan(wish(kind_dir(kind), **files), session=session)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_two_experts(kind_dir: MakeKind, ours: Any, session: Session, guidance: float) -> None:
    from diffusers import WanPipeline

    request = wish(kind_dir("t2v-a14b"), guidance=guidance, steps=6)
    expected = theirs(WanPipeline, kind_dir("t2v-a14b"), request, num_frames=9)
    torch.testing.assert_close(ours(request), expected, **EQUAL)
    assert {name for name, _ in session._loaded} >= {"transformer", "transformer_2"}, "both took part"


def test_each_expert_has_its_own_guidance(kind_dir: MakeKind, ours: Any, session: Session, tmp_path: Path) -> None:
    from diffusers import WanPipeline

    folder = Path(shutil.copytree(kind_dir("t2v-a14b"), tmp_path / "model"))
    card = json.loads((folder / "homereel.json").read_text())
    card["defaults"] |= {"guidance": 4.0, "guidance_2": 2.0}
    (folder / "homereel.json").write_text(json.dumps(card))
    request = wish(folder, guidance=None, steps=6)
    plan = make_plan(request, session=session)
    assert (plan.guidance, plan.guidance_2) == (4.0, 2.0)
    expected = theirs(WanPipeline, folder, request.replace(guidance=4.0), num_frames=9, guidance_scale_2=2.0)
    torch.testing.assert_close(ours(request), expected, **EQUAL)
    both = make_plan(request.replace(guidance=5.0), session=session)
    assert (both.guidance, both.guidance_2) == (5.0, 5.0), "what the user says holds for both"


@pytest.mark.parametrize(("strength", "sampler"), [(0.6, "unipc"), (1.0, "unipc"), (0.3, "unipc")])
def test_footage_made_anew(kind_dir: MakeKind, ours: Any, tmp_path: Path, strength: float, sampler: str) -> None:
    from diffusers import WanVideoToVideoPipeline

    folder = footage(tmp_path)
    request = wish(kind_dir("t2v"), video=folder, strength=strength, steps=5, sampler=sampler, fps=FOLDER_FPS)
    expected = theirs(WanVideoToVideoPipeline, kind_dir("t2v"), request, video=frames_of(folder), strength=strength)
    torch.testing.assert_close(ours(request), expected, **EQUAL)


def test_little_strength_keeps_the_footage(kind_dir: MakeKind, session: Session, tmp_path: Path) -> None:
    folder = footage(tmp_path)
    shown = media.read_clip(folder).frames
    weak, strong = (
        generate(
            wish(kind_dir("t2v"), video=folder, strength=strength, steps=20, fps=FOLDER_FPS), session=session
        ).frames
        for strength in (0.05, 1.0)
    )
    reference = generate(
        wish(kind_dir("t2v"), video=folder, strength=0.1, steps=20, fps=FOLDER_FPS), session=session
    ).frames
    assert media.psnr(weak, reference) > media.psnr(strong, reference)
    assert weak.shape == shown.shape


@pytest.mark.parametrize("references", [0, 2])
@pytest.mark.parametrize("given", ["nothing", "footage", "footage and mask"])
def test_vace(kind_dir: MakeKind, ours: Any, tmp_path: Path, given: str, references: int) -> None:
    from diffusers import WanVACEPipeline

    fields: dict[str, Any] = {}
    inputs: dict[str, Any] = {"num_frames": 9}
    if given != "nothing":
        fields |= {"video": footage(tmp_path), "fps": FOLDER_FPS}
        inputs["video"] = frames_of(fields["video"])
    if given == "footage and mask":
        mask = np.zeros((48, 32), np.uint8)
        mask[8:30, 5:20] = 255
        Image.fromarray(mask).save(tmp_path / "mask.png")
        fields["mask"] = tmp_path / "mask.png"
        inputs["mask"] = [Image.fromarray(mask).convert("RGB")] * 9
    if references:
        fields["references"] = [picture(tmp_path, f"{index}.png", seed=index) for index in range(references)]
        inputs["reference_images"] = [Image.open(file) for file in fields["references"]]
    request = wish(kind_dir("vace"), **fields)
    expected = theirs(WanVACEPipeline, kind_dir("vace"), request, **inputs)
    torch.testing.assert_close(ours(request), expected[:, :, references:], **EQUAL)


def test_vace_with_pictures_at_their_frames(kind_dir: MakeKind, ours: Any, tmp_path: Path) -> None:
    """First, middle and last picture are kept, what lies between is free: as a grey film with a mask of holes."""
    from diffusers import WanVACEPipeline

    files = [picture(tmp_path, f"{name}.png", seed=seed) for seed, name in enumerate(("first", "mid", "last"))]
    request = wish(kind_dir("vace"), image=files[0], last=files[2], keyframes=[{"image": files[1], "frame": 4}])
    # Grey that becomes exactly 0 in -1..1 has no byte, so the oracle is given tensors.
    film = torch.full((9, 3, 48, 32), 0.5)
    mask = torch.ones(9, 3, 48, 32)
    for frame, file in zip((0, 4, 8), files, strict=True):
        film[frame] = torch.from_numpy(np.asarray(Image.open(file)).copy()).permute(2, 0, 1) / 255
        mask[frame] = 0
    expected = theirs(WanVACEPipeline, kind_dir("vace"), request, video=[film], mask=[mask], num_frames=9)
    torch.testing.assert_close(ours(request), expected, **EQUAL)


def test_a_mask_needs_footage(kind_dir: MakeKind, session: Session, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="give the footage as video"):
        wish(kind_dir("vace"), mask=picture(tmp_path, "mask.png", seed=0))
    fields = {"mask": picture(tmp_path, "mask.png", seed=0), "image": picture(tmp_path, "first.png", seed=1)}
    with pytest.raises(InvalidRequest, match="give --video"):
        make_plan(wish(kind_dir("vace"), **fields), session=session)


def test_a_saved_state_of_made_anew_footage_goes_on_to_the_same_bits(
    kind_dir: MakeKind, session: Session, tmp_path: Path
) -> None:
    request = wish(kind_dir("t2v"), video=footage(tmp_path), strength=0.7, steps=6, fps=FOLDER_FPS)
    states: list[DenoiseState] = []
    whole = generate(request, session=session, on_state=states.append)
    assert len(states) == 4, "of 6 steps at strength 0.7"
    states[1].save(tmp_path / "state")
    again = generate(request, session=session, resume=DenoiseState.load(tmp_path / "state"))
    assert again.frames_sha256 == whole.frames_sha256
