"""A clip's latents are kept beside it; another clip is refined from them, or goes on from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from homereel import media
from homereel.core.errors import InvalidRequest, MediaError, UnsupportedInput
from homereel.core.request import Request
from homereel.core.result import FiledClip
from homereel.engine.generate import generate, generate_file, make_plan
from homereel.engine.kept import KeptLatents, find_kept, kept_path
from homereel.engine.session import Session
from homereel.engine.state import DenoiseState

NUM_FRAMES = 17
"""Five latent frames: more than a clip that goes on from them shows the network."""


@pytest.fixture(scope="module")
def clip(tiny_image_model_dir: Path, tmp_path_factory: pytest.TempPathFactory, session: Session) -> FiledClip:
    """A clip of the tiny model with its latents beside it."""
    request = Request(prompt="a red ball falls", model=str(tiny_image_model_dir), seed=7, num_frames=NUM_FRAMES)
    target = tmp_path_factory.mktemp("kept") / "clip.mp4"
    return generate_file(request, target, keep_latents=True, session=session)


def like(clip: FiledClip, **changes: Any) -> Request:
    return clip.request.replace(**changes)


def frames_of(request: Request, session: Session, **options: Any) -> Any:
    return generate(request, session=session, **options).frames


def test_the_latents_are_those_of_the_clip(clip: FiledClip, session: Session) -> None:
    kept = find_kept(clip.path)
    assert kept is not None
    assert kept.latents_BCTHW.shape == (1, 4, 5, 4, 4)
    assert kept.frames_sha256 == clip.frames_sha256
    assert (kept.width, kept.height, kept.num_frames) == (32, 32, NUM_FRAMES)
    assert torch.equal(KeptLatents.load(kept_path(clip.path)).latents_BCTHW, kept.latents_BCTHW)


def test_nothing_is_kept_unless_it_is_asked_for(clip: FiledClip, session: Session, tmp_path: Path) -> None:
    generate_file(clip.request, tmp_path / "plain.mp4", session=session)
    assert [path.name for path in tmp_path.iterdir()] == ["plain.mp4"]


def test_the_less_is_made_anew_the_nearer_it_stays(clip: FiledClip, session: Session) -> None:
    """A tenth of the steps moves it a little, all of them leave nothing but the seed."""
    before = frames_of(clip.request, session)
    near, far = (
        frames_of(like(clip, refine=clip.path, strength=strength, steps=10, seed=8), session) for strength in (0.1, 1.0)
    )
    assert media.psnr(before, near) > media.psnr(before, far) + 3


def test_refining_starts_at_the_strength_and_takes_the_new_size(clip: FiledClip, session: Session) -> None:
    steps: list[int] = []
    result = generate(
        like(clip, refine=clip.path, strength=0.5, steps=6, width=48, height=48),
        session=session,
        on_progress=lambda told: steps.append(told.num_steps) if told.stage == "denoise" else None,
    )
    assert result.frames.shape == (NUM_FRAMES, 48, 48, 3)
    assert set(steps) == {3}
    assert result.plan.strength == 0.5
    assert set(result.record["homereel"]["inputs"]) == {"refine"}


def test_a_clip_without_its_latents_is_encoded(clip: FiledClip, session: Session, tmp_path: Path) -> None:
    alone = tmp_path / "alone.mp4"
    alone.write_bytes(clip.path.read_bytes())
    request = like(clip, refine=alone, strength=0.5, steps=4)
    encoded = generate(request, session=session)
    kept = generate(request.replace(refine=clip.path), session=session)
    assert encoded.frames.shape == kept.frames.shape
    assert encoded.record["homereel"]["inputs"] != kept.record["homereel"]["inputs"]


def test_latents_of_another_clip_are_not_taken_for_its_own(clip: FiledClip, tmp_path: Path, session: Session) -> None:
    other = generate_file(like(clip, seed=9), tmp_path / "other.mp4", session=session)
    kept_path(other.path).write_bytes(kept_path(clip.path).read_bytes())
    assert find_kept(other.path) is None


def test_a_longer_clip_holds_the_one_before_to_the_bit(clip: FiledClip, session: Session, tmp_path: Path) -> None:
    """Its latents do; a decoder that works in pieces may round a level otherwise."""
    before = frames_of(clip.request, session)
    request = like(clip, extend=clip.path, num_frames=NUM_FRAMES + 8)
    longer = generate_file(request, tmp_path / "longer.mp4", keep_latents=True, session=session)
    assert longer.plan.extend_from == NUM_FRAMES
    first, second = (find_kept(path) for path in (clip.path, longer.path))
    assert first is not None
    assert second is not None
    assert second.latents_BCTHW.shape[2] == 5 + 2
    assert torch.equal(second.latents_BCTHW[:, :, :5], first.latents_BCTHW)
    frames = frames_of(request, session)
    assert frames.shape == (NUM_FRAMES + 8, 32, 32, 3)
    assert levels_apart(frames[:NUM_FRAMES], before) <= 1


def test_it_may_go_on_from_an_earlier_moment(clip: FiledClip, session: Session) -> None:
    before = frames_of(clip.request, session)
    other = frames_of(like(clip, extend=clip.path, extend_from=9, num_frames=17, seed=8), session)
    assert levels_apart(other[:9], before[:9]) <= 1
    assert levels_apart(other[9:], before[9:]) > 20


def levels_apart(first: Any, second: Any) -> int:
    """The largest difference of two pixels."""
    return int(np.abs(first.astype(int) - second.astype(int)).max())


def test_what_comes_next_depends_on_what_was_there(clip: FiledClip, tmp_path: Path, session: Session) -> None:
    other = generate_file(like(clip, seed=9), tmp_path / "other.mp4", keep_latents=True, session=session)
    ends = [
        frames_of(like(clip, seed=3, extend=path, num_frames=NUM_FRAMES + 8), session)[NUM_FRAMES:]
        for path in (clip.path, other.path)
    ]
    assert not np.array_equal(*ends)


def test_the_network_sees_a_window_however_long_the_clip_is(clip: FiledClip, session: Session) -> None:
    """One frame, two carried latents and two new ones, in the place of seven."""
    plan = make_plan(like(clip, extend=clip.path, num_frames=NUM_FRAMES + 8), session=session)
    (stage,) = session.family(plan.model).stages(plan)
    assert stage.noise == ((1, 4, 1 + 2 + 2, 4, 4),)


def test_a_clip_that_goes_on_is_taken_up_again_to_the_same_bits(clip: FiledClip, session: Session) -> None:
    request = like(clip, extend=clip.path, num_frames=NUM_FRAMES + 4)
    states: list[DenoiseState] = []
    whole = frames_of(request, session, on_state=states.append)
    assert np.array_equal(frames_of(request, session, resume=states[1]), whole)


def test_going_on_from_any_footage(clip: FiledClip, session: Session, tmp_path: Path) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (9, 64, 64, 3), np.uint8)
    footage = media.write_clip(frames, tmp_path / "footage.mp4", fps=8)
    longer = generate(like(clip, extend=footage, num_frames=13), session=session)
    assert longer.frames.shape == (13, 32, 32, 3)
    assert longer.plan.extend_from == 9


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"num_frames": NUM_FRAMES}, "num_frames"),
        ({"num_frames": 33, "extend_from": 6}, "extend_from"),
        ({"num_frames": 33, "extend_from": 21}, "extend"),
    ],
)
def test_a_length_that_does_not_go_on_is_refused(
    clip: FiledClip, session: Session, changes: dict[str, int], field: str
) -> None:
    with pytest.raises(InvalidRequest) as told:
        generate(like(clip, extend=clip.path, **changes), session=session)
    assert told.value.field == field


def test_a_plan_needs_no_clip_where_the_request_says_how_long_it_is(clip: FiledClip, session: Session) -> None:
    """So that a job may be planned before the one that it goes on from is done."""
    request = like(clip, extend="job:video_0", extend_from=17, num_frames=25)
    assert make_plan(request, session=session).extend_from == 17
    assert make_plan(like(clip, refine="job:video_0"), session=session).strength == 0.7


def test_a_model_that_cannot_says_what_can(tiny_model_dir: Path, clip: FiledClip, session: Session) -> None:
    with pytest.raises(UnsupportedInput, match="last frame"):
        make_plan(like(clip, model=str(tiny_model_dir), extend=clip.path, num_frames=25), session=session)


def test_damaged_latents_are_told(clip: FiledClip, session: Session, tmp_path: Path) -> None:
    damaged = tmp_path / "a.mp4.latents.safetensors"
    damaged.write_bytes(b"nothing")
    with pytest.raises(MediaError, match="no kept latents"):
        generate(like(clip, refine=damaged), session=session)


def test_latents_alone_of_another_size_cannot_be_gone_on_from(clip: FiledClip, session: Session) -> None:
    with pytest.raises(InvalidRequest, match="give the clip itself"):
        generate(like(clip, extend=kept_path(clip.path), num_frames=25, width=48, height=48), session=session)


@pytest.mark.parametrize(
    "changes",
    [
        {"refine": "a.mp4", "extend": "a.mp4"},
        {"refine": "a.mp4", "video": "a.mp4"},
        {"extend": "a.mp4", "image": "a.png"},
        {"extend_from": 5},
        {"strength": 0.5},
    ],
)
def test_wishes_that_contradict_each_other_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        Request(prompt="a red ball", **changes)
