"""What passes are to a whole clip: in the plan and the record, changed from clip to clip, in the way of resuming."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from homereel.core.errors import InvalidRequest, UnsupportedPass
from homereel.core.request import Request
from homereel.engine.generate import generate, make_plan
from homereel.engine.replay import replay
from homereel.engine.session import Session
from homereel.engine.state import DenoiseState
from homereel.media.private import strip_private
from tests.passes.conftest import wish

CACHE = "step_cache:first_block:9:warm_up=0"


@pytest.fixture(scope="module")
def warm() -> Iterator[Session]:
    with Session() as session:
        yield session


@pytest.fixture
def plain(folders: Callable[[str], Path]) -> Request:
    return wish(folders("wan"))


def test_a_session_changes_passes_from_clip_to_clip(plain: Request, warm: Session) -> None:
    """Every clip is what a session of its own would make of it, also where weights were given up for 8 bits."""
    specs = ["", "int8", CACHE, "", f"int8,{CACHE}", "fused_norms", "int8", "int8", ""]
    alone: dict[str, str] = {}
    for spec in specs:
        if spec not in alone:
            with Session() as own:
                alone[spec] = generate(plain.replace(passes=spec), session=own).frames_sha256
    assert len(set(alone.values())) >= 4
    assert [generate(plain.replace(passes=spec), session=warm).frames_sha256 for spec in specs] == [
        alone[spec] for spec in specs
    ]


def test_the_plan_reckons_with_layers_in_eight_bits(
    plain: Request, warm: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOMEREEL_HOME", str(tmp_path))  # no earlier run corrects one plan and not the other
    whole, eight_bit, sparse = (
        make_plan(plain.replace(passes=spec), session=warm) for spec in ("", "int8", "sparse_attention:0.5")
    )
    assert eight_bit.weight_bytes < whole.weight_bytes
    assert eight_bit.peak_bytes <= whole.peak_bytes
    assert (sparse.weight_bytes, sparse.peak_bytes) == (whole.weight_bytes, whole.peak_bytes)


def test_two_experts_have_them_both(folders: Callable[[str], Path], tmp_path: Path) -> None:
    from tests.tiny_models import save_tiny_kind

    request = wish(save_tiny_kind(tmp_path, "t2v-a14b"))
    with Session() as session:
        first = generate(request.replace(passes="int8"), session=session)
        changed = [session.component(name, dtype="float32") for name in ("transformer", "transformer_2")]
        assert all(type(network.blocks[0].attn1.to_out[0]).__name__ == "Int8Linear" for network in changed)
        again = generate(request, session=session)
        assert generate(request.replace(passes="int8"), session=session).frames_sha256 == first.frames_sha256
    assert again.frames_sha256 != first.frames_sha256


def test_the_plan_and_the_record_say_what_ran(plain: Request, warm: Session, tmp_path: Path) -> None:
    result = generate(plain.replace(passes="int8,fused_norms"), session=warm)
    assert result.plan.passes == ("fused_norms", "int8")
    assert result.plan.exactness == "approximate"
    assert "int8 is not faster without a GPU" in result.plan.warnings
    resolved = result.record["homereel"]["resolved"]
    assert (resolved["passes"], resolved["exactness"]) == (["fused_norms", "int8"], "approximate")
    result = generate(plain.replace(passes=CACHE), session=warm)
    private = strip_private(result.record)["homereel"]["resolved"]
    assert private["passes"] == ["step_cache:first_block:threshold=9:warm_up=0"]
    path = result.save(tmp_path / "a.mp4")
    assert replay(path, session=warm).verdict == "exact"


def test_paths_of_weights_are_private(plain: Request) -> None:
    record: dict[str, Any] = {"homereel": {"resolved": {"passes": ["sparse_attention:0.1:weights=/home/me/w.st"]}}}
    assert "passes" not in strip_private(record)["homereel"]["resolved"]


def test_turbo_takes_what_pays_in_either_kind_of_numbers(plain: Request, warm: Session) -> None:
    for level in ("safe", "max"):
        for bf16_fast in (False, True):
            with Session(machine=replace(warm.machine, bf16_fast=bf16_fast)) as other:
                plan = make_plan(plain.replace(turbo=level), session=other)
            assert (plan.passes, plan.exactness) == (("fused_norms",), "exact")
            assert not [warning for warning in plan.warnings if warning.startswith("turbo")]
    assert not make_plan(plain.replace(turbo="off"), session=warm).warnings


def test_a_clip_that_remembers_cannot_be_taken_up_in_the_middle(plain: Request, warm: Session) -> None:
    states: list[DenoiseState] = []
    generate(plain.replace(passes=CACHE), session=warm, on_state=states.append)
    with pytest.raises(InvalidRequest, match=r"step_cache cannot be taken up in the middle.*start it anew"):
        generate(plain.replace(passes=CACHE), session=warm, resume=states[0])
    whole = generate(plain.replace(passes="int8"), session=warm, on_state=states.append)
    again = generate(plain.replace(passes="int8"), session=warm, resume=states[-3])
    assert again.frames_sha256 == whole.frames_sha256


def test_a_clip_with_other_passes_is_another_clip(plain: Request, warm: Session) -> None:
    states: list[DenoiseState] = []
    generate(plain, session=warm, on_state=states.append)
    with pytest.raises(InvalidRequest, match="another clip"):
        generate(plain.replace(passes="int8"), session=warm, resume=states[0])


def test_wrong_words_are_told_before_anything_is_loaded(
    plain: Request, folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("a network is loaded")

    with Session() as session:
        monkeypatch.setattr(type(session.family(plain.model)), "load", load)
        with pytest.raises(InvalidRequest, match="there is no pass 'int9'; did you mean int8"):
            generate(plain.replace(passes="int9"), session=session)
        hunyuan = wish(folders("hunyuan"), width=48, height=64, passes="sparse_attention")
        with pytest.raises(UnsupportedPass, match="use step_cache"):
            generate(hunyuan, session=session)


def test_a_request_takes_passes_or_turbo() -> None:
    assert Request.parse({"prompt": "a", "passes": " int8, compile,"}).passes == ("int8", "compile")
    assert Request.parse({"prompt": "a", "passes": ["int8"], "turbo": "off"}).passes == ("int8",)
    with pytest.raises(InvalidRequest, match="passes and turbo both"):
        Request.parse({"prompt": "a", "passes": "int8", "turbo": "max"})
    with pytest.raises(InvalidRequest, match="turbo: 'fast' is not allowed"):
        Request.parse({"prompt": "a", "turbo": "fast"})


def test_a_failure_midway_leaves_a_session_that_works(plain: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    from homereel.passes.quantize import Quantize

    with Session() as session:
        expected = generate(plain, session=session).frames_sha256

        def fail(*_: Any) -> None:
            raise UnsupportedPass("int8: not today; leave it out")

        with monkeypatch.context() as patch:
            patch.setattr(Quantize, "apply", fail)
            with pytest.raises(UnsupportedPass, match="not today"):
                generate(plain.replace(passes="fused_norms,int8"), session=session)
        assert generate(plain, session=session).frames_sha256 == expected
