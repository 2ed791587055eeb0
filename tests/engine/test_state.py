"""A clip that is broken off and taken up again ends in the same bits as an undisturbed one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from homereel.core.errors import InvalidRequest, MediaError, Stopped, UnwritableTarget
from homereel.engine.generate import generate
from homereel.engine.session import Session
from homereel.engine.state import DenoiseState
from homereel.models.wan.family import WanFamily
from tests.engine.conftest import MakeRequest


def states_of(session: Session, request: Any) -> tuple[str, list[DenoiseState]]:
    states: list[DenoiseState] = []
    return generate(request, session=session, on_state=states.append).frames_sha256, states


@pytest.mark.parametrize("sampler", ["unipc", "euler"])
def test_resuming_after_any_step_gives_the_same_bits(
    tiny: MakeRequest, session: Session, tmp_path: Path, sampler: str
) -> None:
    request = tiny(sampler=sampler, steps=5)
    undisturbed, states = states_of(session, request)
    assert [state.step for state in states] == [1, 2, 3, 4, 5]
    with Session() as another:
        for state in states:
            state.save(tmp_path / "state")
            resumed = generate(request, session=another, resume=DenoiseState.load(tmp_path / "state"))
            assert resumed.frames_sha256 == undisturbed, f"after step {state.step}"
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


def test_resuming_with_a_first_frame(
    tiny: MakeRequest, tiny_image_model_dir: Path, picture_path: Path, session: Session
) -> None:
    request = tiny(model=str(tiny_image_model_dir), image=picture_path, steps=4)
    undisturbed, states = states_of(session, request)
    assert generate(request, session=session, resume=states[1]).frames_sha256 == undisturbed


def test_a_stopped_clip_is_resumed_from_its_last_step(tiny: MakeRequest, session: Session) -> None:
    request, states = tiny(steps=5), list[DenoiseState]()
    with pytest.raises(Stopped):
        generate(request, session=session, on_state=states.append, should_stop=lambda: len(states) == 3)
    steps: list[int] = []
    resumed = generate(
        request,
        session=session,
        resume=states[-1],
        on_progress=lambda told: steps.append(told.step) if told.stage == "denoise" else None,
    )
    assert steps == [0, 4, 5, 5]
    assert resumed.frames_sha256 == generate(request, session=session).frames_sha256


def test_a_state_is_kept_to_the_bit(tiny: MakeRequest, session: Session, tmp_path: Path) -> None:
    _, states = states_of(session, tiny(steps=4))
    states[2].save(tmp_path / "state")
    loaded = DenoiseState.load(tmp_path / "state")
    assert torch.equal(loaded.solver.sample, states[2].solver.sample)
    assert len(loaded.solver.history) == 3
    assert all(map(torch.equal, loaded.solver.history, states[2].solver.history))
    assert torch.equal(loaded.generator, states[2].generator)
    assert loaded.fingerprint == states[2].fingerprint


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 8},
        {"prompt": "a blue ball"},
        {"negative_prompt": "a cube"},
        {"steps": 4},
        {"guidance": 2.0},
        {"shift": 3.0},
        {"sampler": "euler"},
        {"width": 48, "height": 32},
    ],
)
def test_the_state_of_another_clip_is_refused(tiny: MakeRequest, session: Session, other: dict[str, Any]) -> None:
    states: list[DenoiseState] = []
    with pytest.raises(Stopped):
        generate(tiny(), session=session, on_state=states.append, should_stop=lambda: bool(states))
    with pytest.raises(InvalidRequest, match="another clip"):
        generate(tiny(**other), session=session, resume=states[0])


def test_a_file_that_is_no_state_is_refused(tmp_path: Path, tiny_model_dir: Path) -> None:
    (tmp_path / "state").write_bytes(b"nonsense")
    for path in (
        tmp_path / "state",
        tmp_path / "absent",
        tiny_model_dir / "vae" / "diffusion_pytorch_model.safetensors",
    ):
        with pytest.raises(MediaError, match="no saved state"):
            DenoiseState.load(path)


def test_a_state_that_cannot_be_written_leaves_nothing(tiny: MakeRequest, session: Session, tmp_path: Path) -> None:
    _, states = states_of(session, tiny(steps=1))
    with pytest.raises(UnwritableTarget):
        states[0].save(tmp_path / "no" / "state")
    (tmp_path / "taken").mkdir()
    with pytest.raises(UnwritableTarget):
        states[0].save(tmp_path / "taken")
    assert [file.name for file in tmp_path.iterdir()] == ["taken"]


def test_noise_is_drawn_on_the_cpu_from_the_seed(
    tiny: MakeRequest, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[torch.Tensor] = []
    original = WanFamily.begin

    def begin(self: WanFamily, stage: int, noise: Any, **others: Any) -> torch.Tensor:
        drawn.extend(noise)
        return original(self, stage, noise, **others)

    monkeypatch.setattr(WanFamily, "begin", begin)
    generate(tiny(), session=session)
    expected = torch.randn((1, 4, 2, 4, 4), generator=torch.Generator("cpu").manual_seed(7))
    assert len(drawn) == 1
    assert torch.equal(drawn[0], expected)
    assert drawn[0].device.type == "cpu"
