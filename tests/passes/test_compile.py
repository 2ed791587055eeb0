"""Compiling is refused where nothing compiles, keeps what it made at home, and gives the same numbers."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from homereel.core.errors import UnsupportedPass
from homereel.passes.compile_blocks import CompileBlocks
from tests.passes.conftest import MACHINE, FirstCall


def test_without_a_compiler_it_is_refused_and_changes_nothing(
    first_call: FirstCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = first_call("wan")
    network = call.load()
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    for attempt in (
        lambda: CompileBlocks().check(call.family, MACHINE),
        lambda: CompileBlocks().apply(network, call.family),
    ):
        with pytest.raises(UnsupportedPass, match=r"compile: there is no C\+\+ compiler here .*leave it out"):
            attempt()
    assert all("forward" not in vars(block) for block in network.blocks)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_blocks_say_the_same_and_are_kept_at_home(
    first_call: FirstCall, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Flows of the order of 1 in float32, where sums are taken in another order: 1e-4."""
    monkeypatch.setenv("HOMEREEL_HOME", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    call = first_call("wan")
    network = call.load()
    plain = call.flow(network)
    undo = CompileBlocks().apply(network, call.family)
    torch.testing.assert_close(call.flow(network), plain, atol=1e-4, rtol=0)
    assert any(path.is_file() for path in (tmp_path / "compiled").rglob("*"))
    undo()
    assert torch.equal(call.flow(network), plain)
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
