"""One clip from request to frames: the same seed gives the same bits, a stop is near, a failure is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import homereel
from homereel.core.errors import (
    GenerationFailed,
    InvalidRequest,
    Stopped,
    UnknownModel,
    UnreadableMedia,
    UnsupportedInput,
    UnwritableTarget,
)
from homereel.core.events import Progress
from homereel.core.plan import Plan
from homereel.engine.generate import generate, make_plan
from homereel.engine.session import Session
from homereel.media import read_clip, read_record
from homereel.models.wan.family import WanFamily
from tests.engine.conftest import MakeRequest


def test_the_same_seed_gives_the_same_frames(tiny: MakeRequest, session: Session) -> None:
    first = generate(tiny(), session=session)
    assert first.frames.shape == (5, 32, 32, 3)
    assert first.frames.dtype == np.uint8
    assert generate(tiny(), session=session).frames_sha256 == first.frames_sha256
    with Session() as cold:
        assert generate(tiny(), session=cold).frames_sha256 == first.frames_sha256
    assert generate(tiny(seed=8), session=session).frames_sha256 != first.frames_sha256


def test_prompt_and_negative_prompt_matter(tiny: MakeRequest, session: Session) -> None:
    hashes = {
        generate(tiny(**wishes), session=session).frames_sha256
        for wishes in ({}, {"prompt": "a blue cube"}, {"negative_prompt": "a cube"}, {"guidance": 1})
    }
    assert len(hashes) == 4


def test_a_seed_is_drawn_and_told_if_none_is_given(tiny: MakeRequest, session: Session) -> None:
    drawn = [generate(tiny(seed=None, steps=1), session=session).plan.seed for _ in range(2)]
    assert drawn[0] != drawn[1]
    again = generate(tiny(seed=drawn[0], steps=1), session=session)
    assert again.plan.seed == drawn[0]


def test_progress_tells_every_stage_and_step(tiny: MakeRequest, session: Session) -> None:
    told: list[Progress] = []
    previews: list[Any] = []

    def listen(progress: Progress) -> None:
        told.append(progress)
        if progress.preview is not None:
            previews.append(progress.preview())

    result = generate(tiny(), session=session, on_progress=listen)
    stages = list(dict.fromkeys(progress.stage for progress in told))
    assert stages == ["load", "text", "denoise", "decode"]
    steps = [progress for progress in told if progress.stage == "denoise"]
    assert [progress.step for progress in steps] == [0, 1, 2, 3, 3]
    assert all(progress.num_steps == 3 for progress in steps)
    assert steps[3].remaining_seconds == 0
    assert all((step.remaining_seconds or 0) > 0 for step in steps[1:3])
    elapsed = [progress.elapsed_seconds for progress in told]
    assert elapsed == sorted(elapsed)
    assert len(previews) == 3
    assert all(preview.shape == (5, 16, 16, 3) for preview in previews)
    assert result.timing.denoise_seconds > 0


def test_looking_at_previews_changes_nothing(tiny: MakeRequest, session: Session) -> None:
    def look(progress: Progress) -> None:
        if progress.preview is not None:
            progress.preview()

    with_previews = generate(tiny(), session=session, on_progress=look)
    assert with_previews.frames_sha256 == generate(tiny(), session=session).frames_sha256


def test_the_last_preview_looks_like_the_clip(tiny: MakeRequest, session: Session) -> None:
    """At the end the predicted picture is the result itself, so the latents behind the preview must be too."""
    previews: list[Any] = []

    def look(progress: Progress) -> None:
        if progress.preview is not None:
            previews.append(progress.preview())

    states: list[Any] = []
    generate(tiny(), session=session, on_progress=look, on_state=states.append)
    family = session.family(tiny().model)
    final = family.preview(
        0,
        states[-1].solver.sample,
        plan=make_plan(tiny(), session=session),
        use=lambda name: nullcontext(session.component(name, dtype="float32")),
    )
    assert np.array_equal(previews[-1], final)
    assert not np.array_equal(previews[0], final)


def test_the_plan_is_told_before_anything_is_loaded(tiny: MakeRequest) -> None:
    plans: list[Plan] = []

    class Enough(Exception):
        pass

    def told(plan: Plan) -> None:
        plans.append(plan)
        raise Enough

    with Session() as cold:
        with pytest.raises(Enough):
            generate(tiny(width=100, height=32), session=cold, on_plan=told)
        assert cold._loaded == {}
        assert plans[0].adjustments == ("width 100 is not a multiple of 16; using 96",)
        assert make_plan(tiny(width=100, height=32), session=cold) == plans[0]


def count_passes(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of each pass through the network, filled while clips are made."""
    from diffusers import WanTransformer3DModel

    passes: list[float] = []
    original = WanTransformer3DModel.forward

    def counted(self: Any, *args: Any, **options: Any) -> Any:
        passes.append(float(options["timestep"].max()))
        return original(self, *args, **options)

    monkeypatch.setattr(WanTransformer3DModel, "forward", counted)
    return passes


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_stop_comes_within_a_step(
    tiny: MakeRequest, session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, after: int
) -> None:
    """After the very pass during which it was asked for: with guidance a step has two."""
    passes = count_passes(monkeypatch)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Stopped) as caught:
        generate(tiny(), session=session, should_stop=lambda: len(passes) >= after)
    assert len(passes) == after
    assert caught.value.exit_code == 130
    assert list(tmp_path.iterdir()) == []
    assert generate(tiny(), session=session).frames.any(), "the session is as good as before"


def test_a_stop_before_the_start_loads_nothing(tiny: MakeRequest) -> None:
    with Session() as cold:
        with pytest.raises(Stopped):
            generate(tiny(), session=cold, should_stop=lambda: True)
        assert cold._loaded == {}


@pytest.mark.parametrize(("guidance", "passes_a_step"), [(1.0, 1), (3.0, 2)])
def test_guidance_of_one_is_a_single_pass(
    tiny: MakeRequest,
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
    guidance: float,
    passes_a_step: int,
) -> None:
    passes = count_passes(monkeypatch)
    generate(tiny(guidance=guidance), session=session)
    assert len(passes) == 3 * passes_a_step


def test_numbers_that_are_not_finite_fail_at_once(
    tiny: MakeRequest, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = count_passes(monkeypatch)
    sound = WanFamily.velocity

    def broken(self: WanFamily, *args: Any, **options: Any) -> Any:
        velocity = sound(self, *args, **options)
        return velocity * torch.inf if len(passes) > 2 else velocity

    monkeypatch.setattr(WanFamily, "velocity", broken)
    with pytest.raises(GenerationFailed, match="step 2 of 3"):
        generate(tiny(), session=session)
    assert len(passes) == 4


@pytest.mark.parametrize(("level", "name"), [(0, "black"), (130, "one flat colour")])
def test_a_clip_that_shows_nothing_fails(
    tiny: MakeRequest, session: Session, monkeypatch: pytest.MonkeyPatch, level: int, name: str
) -> None:
    blank = np.full((5, 32, 32, 3), level, np.uint8)
    blank[2, 3, 4] += 3
    monkeypatch.setattr(WanFamily, "decode", lambda self, latents, **_: (piece for piece in (blank[:2], blank[2:])))
    with pytest.raises(GenerationFailed, match=name):
        generate(tiny(), session=session)


@pytest.mark.parametrize(
    ("wishes", "kind", "exit_code"),
    [
        ({"model": "pockett"}, UnknownModel, 2),
        ({"steps": 0}, InvalidRequest, 2),
        ({"seed": -1}, InvalidRequest, 2),
        ({"prompt": ""}, InvalidRequest, 2),
        ({"image": "first.png"}, UnsupportedInput, 2),
    ],
)
def test_a_wrong_wish_is_one_line_and_exit_code_2(
    tiny: MakeRequest, session: Session, wishes: dict[str, Any], kind: type[Exception], exit_code: int
) -> None:
    with pytest.raises(kind) as caught:
        generate(tiny(**wishes), session=session)
    assert getattr(caught.value, "exit_code", None) == exit_code
    assert "\n" not in str(caught.value)


def no_file(path: Path) -> None:
    path.unlink()


def no_picture(path: Path) -> None:
    path.write_text("not a picture")


def playlist(path: Path) -> None:
    path.write_text("ffconcat version 1.0\nfile secret.mp4\n")


@pytest.mark.parametrize("damage", [no_file, no_picture, playlist])
def test_an_unreadable_first_frame_is_told_before_anything_is_loaded(
    tiny: MakeRequest, tiny_image_model_dir: Path, picture_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(picture_path)
    with Session() as cold:
        with pytest.raises(UnreadableMedia):
            generate(tiny(model=str(tiny_image_model_dir), image=picture_path), session=cold)
        assert cold._loaded == {}


def test_a_first_frame_shapes_the_clip(
    tiny: MakeRequest, tiny_image_model_dir: Path, picture_path: Path, session: Session
) -> None:
    wishes = {"model": str(tiny_image_model_dir), "steps": 2}
    with_picture = generate(tiny(**wishes, image=picture_path), session=session)
    without = generate(tiny(**wishes), session=session)
    assert with_picture.frames_sha256 != without.frames_sha256
    assert set(with_picture.record["homereel"]["inputs"]) == {"image"}
    again = generate(tiny(**wishes, image=picture_path), session=session)
    assert again.frames_sha256 == with_picture.frames_sha256


def test_a_small_machine_frees_each_part_and_gives_the_same_frames(
    tiny: MakeRequest,
    session: Session,
    picture_path: Path,
    tiny_image_model_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = tiny(model=str(tiny_image_model_dir), image=picture_path)
    roomy = generate(request, session=session)
    held: list[set[str]] = []

    def look(progress: Progress) -> None:
        held.append({name for name, _ in small._loaded})
        assert progress.preview is None, "there is no room for the VAE beside the denoiser"

    monkeypatch.setattr("homereel.engine.clip.keeps_all", lambda *_, **__: False)
    with Session() as small:
        result = generate(request, session=small, on_progress=look)
        assert small._loaded == {}
    assert max(len(names) for names in held) == 1
    assert set.union(*held) == {"text_encoder", "transformer", "vae"}
    assert result.frames_sha256 == roomy.frames_sha256


def test_a_second_model_takes_the_place_of_the_first(
    tiny: MakeRequest, tiny_image_model_dir: Path, session: Session
) -> None:
    first = generate(tiny(), session=session)
    second = generate(tiny(model=str(tiny_image_model_dir)), session=session)
    assert first.record["homereel"]["model"] != second.record["homereel"]["model"]
    assert generate(tiny(), session=session).frames_sha256 == first.frames_sha256


def test_the_record_says_how_to_make_it_again(tiny: MakeRequest, session: Session, tmp_path: Path) -> None:
    result = generate(tiny(), session=session, parents=("abc",))
    record = json.loads(json.dumps(result.record))
    inner = record["homereel"]
    assert inner["schema"] == 1
    assert inner["version"] == homereel.__version__
    assert inner["ai_generated"] is True
    assert inner["parents"] == ["abc"]
    assert inner["request"]["prompt"] == "a red ball falls"
    assert inner["resolved"] == json.loads(json.dumps(result.plan.as_dict()))
    assert inner["frames_sha256"] == result.frames_sha256
    assert inner["machine"]["num_threads"] == session.machine.num_threads
    assert inner["software"]["torch"] == torch.__version__
    assert set(inner["model"]["files"]) >= {"vae/config.json", "tokenizer/tokenizer.json"}
    assert inner["peak_bytes"] == result.peak_bytes > 10**7
    assert inner["created"].endswith("+00:00")
    path = result.save(tmp_path / "a.mp4", quality=55)
    read = read_record(path)
    assert read is not None
    assert read["homereel"] == {**inner, "encoding": {"quality": 55}}
    assert result.timing.write_seconds > 0
    assert read_clip(path).frames.shape == result.frames.shape


def test_saving_in_private_leaves_the_prompt_out(tiny: MakeRequest, session: Session, tmp_path: Path) -> None:
    path = generate(tiny(steps=1), session=session).save(tmp_path / "a.mp4", private=True)
    assert b"red ball" not in path.read_bytes()


def test_saving_is_told_and_a_bad_target_leaves_nothing(tiny: MakeRequest, session: Session, tmp_path: Path) -> None:
    stages: list[str] = []
    result = generate(tiny(steps=1), session=session, on_progress=lambda progress: stages.append(progress.stage))
    with pytest.raises(UnwritableTarget):
        result.save(tmp_path / "no" / "a.mp4")
    with pytest.raises(UnwritableTarget):
        result.save(tmp_path / "a.xyz")
    assert list(tmp_path.iterdir()) == []
    result.save(tmp_path / "a.gif")
    assert stages[-1] == "write"


def test_the_python_door(tiny_model_dir: Path, tmp_path: Path) -> None:
    stages: list[str] = []
    result = homereel.generate(
        "a red ball falls",
        model=str(tiny_model_dir),
        seed=7,
        steps=1,
        on_progress=lambda progress: stages.append(progress.stage),
    )
    assert isinstance(result, homereel.Result)
    assert result.save(str(tmp_path / "a.mp4")) == tmp_path / "a.mp4"
    assert "denoise" in stages
    with homereel.Session() as session:
        again = homereel.generate(result.request, session=session)
        assert again.frames_sha256 == result.frames_sha256
        other = homereel.generate(result.request, session=session, seed=8)
        assert other.frames_sha256 != result.frames_sha256
    with pytest.raises(homereel.HomereelError, match="steps"):
        homereel.generate("a ball", steps=0)
