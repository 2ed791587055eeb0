"""One contract for every family: diffusers' latents, the same bits again, a state to go on from, plain refusals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from homereel.core.errors import Stopped, UnsupportedInput
from homereel.core.events import Progress
from homereel.core.inputs import OPTIONS
from homereel.core.request import Request
from homereel.engine.generate import generate, make_plan
from homereel.engine.session import Session
from homereel.engine.state import DenoiseState
from homereel.models import families
from homereel.models.registry import model_facts
from tests.models import one_file_family
from tests.models.parity_rows import ROWS, ParityRow


class OneFile(families.FamilyEntry):
    """The line of a family that lies outside the package."""

    def open(self, **what: Any) -> Any:
        return one_file_family.open_one_file(**what)


@pytest.fixture(scope="module", params=ROWS, ids=lambda row: row.id)
def row(request: pytest.FixtureRequest) -> Iterator[ParityRow]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(families, "FAMILIES", {**families.FAMILIES, "one-file": OneFile("", ("OneFilePipeline",))})
        patch.setattr("homereel.models.registry.FAMILIES", families.FAMILIES)
        chosen: ParityRow = request.param
        yield chosen


@pytest.fixture(scope="module")
def wish(row: ParityRow, tmp_path_factory: pytest.TempPathFactory) -> Request:
    return row.request(row.make(tmp_path_factory.mktemp(row.id)), tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def warm() -> Iterator[Session]:
    with Session() as session:
        yield session


def test_latents_equal_diffusers(row: ParityRow, wish: Request, warm: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same sums in float32, in another order, over a few steps of networks of two layers: 1e-5."""
    expected = row.oracle(Path(wish.model or ""), wish)
    kind = type(warm.family(wish.model))
    found: list[Tensor] = []
    original = kind.decode

    def decode(self: Any, latents: Tensor, **others: Any) -> Any:
        found.append(row.view(self, others["plan"], latents))
        return original(self, latents, **others)

    monkeypatch.setattr(kind, "decode", decode)
    generate(wish, session=warm)
    torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=0)


def test_a_clip_is_what_its_plan_says_and_the_same_again(row: ParityRow, wish: Request, warm: Session) -> None:
    width, height, num_frames = row.size
    first = generate(wish, session=warm)
    assert first.frames.shape == (num_frames, height, width, 3)
    assert (first.sound is not None) == first.plan.sound == warm.family(wish.model).makes_sound
    again = generate(wish, session=warm)
    assert (again.frames_sha256, again.sound_sha256) == (first.frames_sha256, first.sound_sha256)
    assert generate(wish.replace(seed=8), session=warm).frames_sha256 != first.frames_sha256


def test_a_saved_state_goes_on_to_the_same_bits(wish: Request, warm: Session, tmp_path: Path) -> None:
    states: list[DenoiseState] = []
    whole = generate(wish, session=warm, on_state=states.append)
    states[len(states) // 2 - 1].save(tmp_path / "state")
    again = generate(wish, session=warm, resume=DenoiseState.load(tmp_path / "state"))
    assert (again.frames_sha256, again.sound_sha256) == (whole.frames_sha256, whole.sound_sha256)


def test_each_step_can_be_looked_at_and_stopped(wish: Request, warm: Session) -> None:
    looks: list[tuple[int, ...]] = []
    passes = 0

    def look(progress: Progress) -> None:
        if progress.preview is not None:
            looks.append(progress.preview().shape)

    generate(wish, session=warm, on_progress=look)
    assert len(looks) == wish.steps
    assert all(len(shape) == 4 and shape[3] == 3 for shape in looks)

    def stop() -> bool:
        nonlocal passes
        passes += 1
        return passes > 12

    with pytest.raises(Stopped):
        generate(wish, session=warm, should_stop=stop)


def test_what_it_does_not_take_is_refused_with_those_which_do(wish: Request, warm: Session, tmp_path: Path) -> None:
    taken = model_facts(wish.model).inputs
    wrong: dict[str, Any] = {
        "image": {"image": "x.png"},
        "last": {"last": "x.png"},
        "keyframes": {"keyframes": [{"image": "x.png", "frame": 1}]},
        "video": {"video": "x.mp4"},
        "references": {"references": ["x.png"]},
    }
    assert set(wrong) == set(OPTIONS) - {"mask"}, "a mask comes with footage"
    for kind in wrong.keys() - taken:
        with pytest.raises(UnsupportedInput, match=r"models that do: .*[a-z]") as caught:
            make_plan(wish.replace(**wrong[kind]), session=warm)
        assert caught.value.field == kind


def test_what_it_cannot_do_without_is_asked_for(wish: Request, warm: Session) -> None:
    for kind in model_facts(wish.model).required:
        with pytest.raises(UnsupportedInput, match=f"give one with {OPTIONS[kind]} FILE"):
            make_plan(wish.replace(**{kind: None}), session=warm)


def test_what_is_off_the_grid_is_moved_and_told(row: ParityRow, wish: Request, warm: Session) -> None:
    plan = make_plan(wish.replace(width=row.size[0] + 1, num_frames=row.size[2] + 1), session=warm)
    assert (plan.width, plan.num_frames) == (row.size[0], row.size[2])
    assert len(plan.adjustments) == 2


def test_its_parts_are_all_there(wish: Request, warm: Session) -> None:
    family = warm.family(wish.model)
    assert family.decoders < set(family.components)
    for component in family.components:
        network = family.load(component, device="cpu", dtype="float32")
        tensors = {tensor.data_ptr(): tensor.nbytes for tensor in (*network.parameters(), *network.buffers())}
        # Tables that files do not hold, such as those of positions, are small beside the weights even here.
        assert np.isclose(family.weight_bytes(component, dtype="float32"), sum(tensors.values()), rtol=0.3), component
    assert all(path.is_file() for path in family.files().values())
    assert len(family.blocks(family.load(family.denoiser(1000.0), device="cpu", dtype="float32"))) >= 1
