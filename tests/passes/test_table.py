"""Passes are read from words and written back; turbo chooses what pays and says so when nothing does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from homereel.core.errors import InvalidRequest, UnsupportedPass
from homereel.core.machine import Machine
from homereel.core.model import Blocks
from homereel.passes import parse_passes, slow_here, turbo
from homereel.passes.fused_norms import FusedNorms
from homereel.passes.quantize import Quantize
from homereel.passes.sparse_attention import SparseAttention
from homereel.passes.step_cache import StepCache
from tests.passes.conftest import MACHINE


class Model:
    """What turbo asks of a family: Wan 2.1 with 1.3 billion parameters, unless told otherwise."""

    model = "a model"

    def __init__(self, **figures: Any) -> None:
        blocks = Blocks(layout="wan", num_blocks=30, num_heads=12, head_size=128)
        self.block_facts = replace(blocks, **figures)


BFLOAT16 = replace(MACHINE, bf16_fast=True)


def choose(level: Any, *, num_tokens: int, machine: Machine = MACHINE, **figures: Any) -> tuple[list[str], str]:
    family: Any = Model(**figures)
    choice = turbo(level, family=family, machine=machine, num_tokens=num_tokens, num_calls=100)
    return [each.spec for each in choice.passes], " ".join(choice.remarks)


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("", ()),
        ("sparse_attention", (SparseAttention(),)),
        ("sparse_attention:0.1", (SparseAttention(ratio=0.1),)),
        (" int8 , sparse_attention:0.1:first_layers=2", (SparseAttention(ratio=0.1, first_layers=2), Quantize())),
        ("step_cache:mag:0.12,fp8", (Quantize(scheme="fp8"), StepCache(method="mag", threshold=0.12))),
        ("step_cache:taylor:interval=4:order=2", (StepCache(method="taylor", interval=4, order=2),)),
        ("sparse_attention:ratios=1+0.5+0.25", (SparseAttention(ratios=(1.0, 0.5, 0.25)),)),
    ],
)
def test_words_become_passes_in_their_order_and_words_again(text: str, passes: tuple[Any, ...]) -> None:
    found = parse_passes(text)
    assert found == passes
    assert parse_passes([each.spec for each in found]) == passes
    assert parse_passes(",".join(each.spec for each in found)) == passes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sparse_atention", "there is no pass 'sparse_atention'; did you mean sparse_attention?"),
        ("zzz", "there is no pass 'zzz'; there are sparse_attention, fused_norms,"),
        ("x" * 500, "there is no pass 'xxx"),
        ("sparse_attention:2", "2 of the blocks cannot be kept; give more than 0, at most 1"),
        ("sparse_attention:0", "give more than 0"),
        ("sparse_attention:nan", "cannot be kept"),
        ("sparse_attention:much", "ratio='much' cannot be read: could not convert"),
        ("sparse_attention:0.1:ratio=0.2", "ratio is given twice; keep one"),
        ("sparse_attention:share=0.2", "'share' is no setting; it has ratio, first_layers,"),
        ("sparse_attention:first_steps=2", "first_steps is a share from 0 to 1"),
        ("int8:0.1", "'0.1' is no setting; it has none"),
        ("step_cache:teacache", "there is no method 'teacache'; choose first_block, mag, taylor"),
        ("step_cache:taylor:0.1", "taylor has none but its interval"),
        ("step_cache:mag:-1", "threshold is a number from 0"),
        ("step_cache:mag:nan", "threshold is a number from 0"),
        ("step_cache:taylor:interval=0", "counts from 1"),
        ("int8,int8", "int8 is there twice; keep one"),
        ("fp8,int8", "fp8 and int8 exclude each other; keep one"),
    ],
)
def test_other_words_are_refused_with_what_would_be_right(text: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^passes: ") as refused:
        parse_passes(text)
    assert message in str(refused.value)
    assert refused.value.field == "passes"
    assert len(str(refused.value)) < 300


def test_turbo_on_a_cpu_takes_sparse_attention_for_long_clips_only() -> None:
    assert choose("off", num_tokens=100_000) == ([], "")
    assert choose("max", num_tokens=32_760) == (["sparse_attention:0.15", "fused_norms"], "")
    assert choose("max", num_tokens=1_000) == (["fused_norms"], "")
    assert choose("max", num_tokens=32_760, machine=BFLOAT16) == (["sparse_attention:0.15", "fused_norms"], "")
    names, remark = choose("max", num_tokens=1_000, layout="another")
    assert names == []
    assert remark == (
        "turbo max does nothing: nothing is known to make this clip faster here; fewer steps or a smaller size would"
    )


def test_turbo_safe_never_changes_a_clip_and_says_what_would_help(monkeypatch: pytest.MonkeyPatch) -> None:
    for machine in (MACHINE, BFLOAT16):
        assert choose("safe", num_tokens=32_760, machine=machine) == (["fused_norms"], "")

    def refuse(*_: object) -> None:
        raise UnsupportedPass("no kernel")

    monkeypatch.setattr(FusedNorms, "check", refuse)
    names, remark = choose("safe", num_tokens=32_760)
    assert names == []
    assert "nothing exact is known to make this clip faster" in remark
    assert "turbo max would use sparse attention" in remark
    _, remark = choose("safe", num_tokens=32_760, layout="joint")
    assert "turbo max" not in remark


def test_what_is_asked_for_by_name_is_told_where_it_does_not_pay() -> None:
    family: Any = Model()
    size = {"family": family, "machine": MACHINE, "num_tokens": 1_000, "num_calls": 10}
    slow = {each.name: slow_here(each, **size) for each in parse_passes("sparse_attention,int8,compile,step_cache")}
    assert slow["int8"] == "int8 is not faster without a GPU"
    assert "1000 tokens are too few" in (slow["sparse_attention"] or "")
    assert "compile takes longer" in (slow["compile"] or "")
    assert slow["step_cache"] is None


def test_compiling_pays_for_large_models_on_a_gpu_only() -> None:
    gpu = replace(MACHINE, device="cuda", vram_bytes=2**37)
    (each,) = parse_passes("compile")
    small: Any = Model()
    large: Any = Model(num_blocks=40, num_heads=40)
    assert slow_here(each, family=small, machine=gpu, num_tokens=32_760, num_calls=100) is not None
    assert slow_here(each, family=large, machine=gpu, num_tokens=75_600, num_calls=100) is None
    assert slow_here(each, family=large, machine=MACHINE, num_tokens=75_600, num_calls=100) is not None
