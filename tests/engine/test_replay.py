"""A file made again: exact, close or changed, and why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from homereel.core.errors import InvalidRequest, UnreadableMedia, WeightsError
from homereel.core.result import Result
from homereel.engine.generate import generate
from homereel.engine.replay import replay
from homereel.engine.session import Session
from homereel.media import write_clip
from tests.engine.conftest import MakeRequest


@pytest.fixture
def result(tiny: MakeRequest, session: Session) -> Result:
    return generate(tiny(steps=2), session=session)


def rewritten(result: Result, path: Path, *, frames: Any = None, quality: int = 80, **changes: Any) -> Path:
    """The clip with other frames, or a record in which some fields are others."""
    record = {"homereel": {**result.record["homereel"], "encoding": {"quality": 80}, **changes}}
    shown = result.frames if frames is None else frames
    return write_clip(shown, path, fps=result.fps, record=record, quality=quality)


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webp", "a.png", "frames/"])
def test_what_was_not_touched_is_exact(result: Result, session: Session, tmp_path: Path, name: str) -> None:
    path = result.save(f"{tmp_path}/{name}", quality=40)
    verdict = replay(path, session=session)
    assert (verdict.verdict, verdict.psnr, verdict.reasons) == ("exact", None, ())
    assert json.dumps(verdict.as_dict()) == '{"verdict": "exact", "psnr": null, "reasons": []}'


def test_a_cold_session_is_exact_too(result: Result, tmp_path: Path) -> None:
    assert replay(result.save(tmp_path / "a.mp4")).verdict == "exact"


def test_with_a_first_frame(
    tiny: MakeRequest, session: Session, tiny_image_model_dir: Path, picture_path: Path, tmp_path: Path
) -> None:
    from PIL import Image

    request = tiny(model=str(tiny_image_model_dir), image=picture_path, steps=2)
    path = generate(request, session=session).save(tmp_path / "a.mp4")
    assert replay(path, session=session).verdict == "exact"
    Image.fromarray(np.random.default_rng(9).integers(0, 256, (32, 32, 3), np.uint8)).save(picture_path)
    verdict = replay(path, session=session)
    assert verdict.verdict == "changed"
    assert "the first picture is another one" in verdict.reasons


def test_an_edited_file_is_not_exact(result: Result, session: Session, tmp_path: Path) -> None:
    touched = result.frames.copy()
    touched[2, 4:8, 4:8] ^= 24
    verdict = replay(rewritten(result, tmp_path / "a.mp4", frames=touched), session=session)
    assert verdict.verdict == "close"
    assert 35 <= (verdict.psnr or 0) < 60
    assert any("edited" in reason for reason in verdict.reasons)
    verdict = replay(rewritten(result, tmp_path / "b.mp4", frames=255 - result.frames), session=session)
    assert verdict.verdict == "changed"
    assert (verdict.psnr or 99) < 35


def test_a_file_encoded_again_is_not_exact(result: Result, session: Session, tmp_path: Path) -> None:
    verdict = replay(rewritten(result, tmp_path / "a.mp4", quality=60), session=session)
    assert verdict.verdict in ("close", "changed")
    assert verdict.psnr is not None
    assert any("encoded again" in reason for reason in verdict.reasons)


def test_a_cut_file_is_changed(result: Result, session: Session, tmp_path: Path) -> None:
    verdict = replay(rewritten(result, tmp_path / "a.mp4", frames=result.frames[:3]), session=session)
    assert (verdict.verdict, verdict.psnr) == ("changed", None)
    assert any("3 frames of 32x32, made again it is 5 frames" in reason for reason in verdict.reasons)


def test_another_pace_is_not_exact(result: Result, session: Session, tmp_path: Path) -> None:
    record = {"homereel": {**result.record["homereel"], "encoding": {"quality": 80}}}
    path = write_clip(result.frames, tmp_path / "a.gif", fps=20, record=record, quality=80)
    verdict = replay(path, session=session)
    assert (verdict.verdict, verdict.psnr) == ("close", None)
    assert any("20 frames a second" in reason for reason in verdict.reasons)


def test_another_seed_in_the_record_is_changed(result: Result, session: Session, tmp_path: Path) -> None:
    resolved = {**result.record["homereel"]["resolved"], "seed": 1234}
    verdict = replay(rewritten(result, tmp_path / "a.mp4", resolved=resolved), session=session)
    assert verdict.verdict == "changed"
    assert verdict.reasons


def test_other_versions_and_machines_are_named_if_it_differs(result: Result, session: Session, tmp_path: Path) -> None:
    inner = result.record["homereel"]
    changes: dict[str, Any] = {
        "version": "0.0.1",
        "software": {**inner["software"], "torch": "1.0"},
        "machine": {**inner["machine"], "name": "another", "device": "cuda"},
    }
    assert replay(rewritten(result, tmp_path / "a.mp4", **changes), session=session).verdict == "exact"
    verdict = replay(rewritten(result, tmp_path / "b.mp4", **changes, frames_sha256="0" * 64), session=session)
    assert (verdict.verdict, verdict.psnr) == ("close", None)
    text = "; ".join(verdict.reasons)
    assert "homereel was 0.0.1" in text
    assert "torch was 1.0" in text
    assert "device was cuda, is cpu" in text
    assert "name was another" in text


def test_other_weights_are_named(tiny: MakeRequest, tiny_model_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model_dir, tmp_path / "model"))
    with Session() as session:
        path = generate(tiny(model=str(folder), steps=2), session=session).save(tmp_path / "a.mp4")
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    torch.manual_seed(5)
    save_file({name: tensor + 0.3 * torch.randn_like(tensor) for name, tensor in state.items()}, file)
    verdict = replay(path)
    assert verdict.verdict == "changed"
    assert any("vae/diffusion_pytorch_model.safetensors" in reason for reason in verdict.reasons)
    shutil.rmtree(folder)
    with pytest.raises(InvalidRequest, match="no folder"):
        replay(path)


def test_what_carries_no_record_is_refused(result: Result, session: Session, tmp_path: Path) -> None:
    path = write_clip(result.frames, tmp_path / "a.mp4", fps=8)
    with pytest.raises(UnreadableMedia, match="no record"):
        replay(path, session=session)
    private = result.save(tmp_path / "b.mp4", private=True)
    with pytest.raises(InvalidRequest, match="without its prompt"):
        replay(private, session=session)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"steps": 10**6}, InvalidRequest),
        ({"width": 10**6}, InvalidRequest),
        ({"model": "/etc"}, WeightsError),
        ({"model": "nobody-knows"}, InvalidRequest),
    ],
)
def test_a_hostile_record_is_refused(
    result: Result, session: Session, tmp_path: Path, changes: dict[str, Any], error: type[Exception]
) -> None:
    resolved = {**result.record["homereel"]["resolved"], **changes}
    with pytest.raises(error):
        replay(rewritten(result, tmp_path / "a.mp4", resolved=resolved), session=session)
