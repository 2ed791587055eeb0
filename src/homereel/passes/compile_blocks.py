"""The blocks compiled by PyTorch, each the same way: fewer trips to memory, at the price of a slow first step.

What was compiled is kept in homereel's own folder, so the next start needs seconds.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from dataclasses import dataclass
from typing import ClassVar

import torch

from homereel.core.environment import read_environment
from homereel.core.errors import UnsupportedPass
from homereel.core.machine import Machine
from homereel.core.protocols import Component, Family, Undo
from homereel.passes.blocks import Changes, blocks_of
from homereel.passes.technique import Technique

_CACHE = "TORCHINDUCTOR_CACHE_DIR"


@dataclass(frozen=True)
class CompileBlocks(Technique):
    """Exact but for rounding: sums may be taken in another order."""

    name: ClassVar[str] = "compile"

    def check(self, family: Family, machine: Machine) -> None:
        reason = compiler_reason(machine.device)
        if reason is not None:
            raise UnsupportedPass(f"{self.name}: {reason}; or leave it out, {family.model} runs without it")

    def apply(self, component: Component, family: Family) -> Undo:
        reason = compiler_reason(next(component.parameters()).device.type)
        if reason is not None:
            raise UnsupportedPass(f"{self.name}: {reason}; or leave it out")
        blocks = blocks_of(component, family, name=self.name, side=True)
        changes = Changes()
        if _CACHE not in os.environ:
            os.environ[_CACHE] = str(read_environment().home / "compiled")
            changes.then(lambda: os.environ.pop(_CACHE, None))
        for block in blocks:
            changes.set_forward(block, torch.compile(block.forward, fullgraph=True))
        return changes.undo


def compiler_reason(device: str) -> str | None:
    """Why nothing can be compiled here, None if it can."""
    if device == "cuda":
        found = importlib.util.find_spec("triton") is not None
        return None if found else "compiling for a GPU needs Triton: pip install triton"
    named = os.environ.get("CXX")
    compilers = (named,) if named else ("g++", "clang++", "cl")
    if any(shutil.which(each) for each in compilers):
        return None
    return f"there is no C++ compiler here ({', '.join(compilers)}); install one"
