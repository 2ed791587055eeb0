"""A model's own passes may be for long clips only: shorter ones are made without them, and nothing is missed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from homereel.core.errors import WeightsError
from homereel.core.request import Request
from homereel.engine.generate import generate, make_plan
from homereel.engine.session import Session
from homereel.models.registry import model_facts
from tests.cli.conftest import Cli

OWN = "sparse_attention:0.5:first_layers=0:first_steps=0"


def with_passes(model: Path, target: Path, *, from_tokens: int) -> str:
    shutil.copytree(model, target)
    card = json.loads((target / "homereel.json").read_text())
    card["defaults"] |= {"passes": [OWN], "passes_from_tokens": from_tokens}
    (target / "homereel.json").write_text(json.dumps(card))
    return str(target)


def test_clips_from_so_many_tokens_on_have_the_passes(cli: Cli, tiny_model_dir: Path, tmp_path: Path) -> None:
    with Session() as session:
        short = Request(prompt="a red ball", model=str(tiny_model_dir), width=32, height=32)
        tokens = make_plan(short, session=session).num_tokens
        model = with_passes(tiny_model_dir, tmp_path / "tuned", from_tokens=tokens + 1)
        for width, expected in ((32, ()), (64, (OWN,))):
            wish = Request(prompt="a red ball", model=model, seed=1, width=width, height=32)
            made = generate(wish, session=session)
            assert made.plan.passes == expected
            assert not made.plan.warnings
            dense = generate(wish.model_copy(update={"turbo": "off"}), session=session)
            assert dense.plan.passes == ()
            assert bool(dense.plan.warnings) is bool(expected)
            told = cli("plan", "a red ball", "--model", model, "--size", f"{width}x32", "--json").json
            assert told["settings"]["passes"] == list(expected)


def test_a_count_that_is_none_is_refused(tiny_model_dir: Path, tmp_path: Path) -> None:
    model = with_passes(tiny_model_dir, tmp_path / "wrong", from_tokens=-1)
    with pytest.raises(WeightsError, match="passes_from_tokens"):
        model_facts(model)
