"""A tiny model of each layout of blocks, and one call of its transformer as the engine makes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch
from torch import Tensor

from homereel.core.machine import Machine
from homereel.core.plan import Plan
from homereel.core.protocols import StepTime
from homereel.core.request import Request
from homereel.engine.generate import generate
from homereel.engine.session import Session
from tests.tiny_hunyuan import save_tiny_hunyuan
from tests.tiny_ltx import save_tiny_ltx
from tests.tiny_models import save_tiny_kind, save_tiny_model
from tests.tiny_skyreels import save_tiny_skyreels

CPU = {"device": "cpu", "dtype": "float32"}
MACHINE = Machine(device="cpu", name="a processor", num_threads=1, ram_bytes=2**34, vram_bytes=None, bf16_fast=False)

MODELS: dict[str, Callable[[Path], Path]] = {
    "wan": lambda folder: save_tiny_model(folder, first_frame=False),
    "wan-first-frame": lambda folder: save_tiny_model(folder, first_frame=True),
    "vace": lambda folder: save_tiny_kind(folder, "vace"),
    "skyreels": save_tiny_skyreels,
    "hunyuan": save_tiny_hunyuan,
    "ltx": lambda folder: save_tiny_ltx(folder, generation="2.3", distilled=False),
}
"""One of each layout, which every pass is held to."""
MORE_MODELS: dict[str, Callable[[Path], Path]] = {
    "ltx-2.0": lambda folder: save_tiny_ltx(folder, generation="2.0", distilled=False),
}


@dataclass(frozen=True)
class Call:
    """What the engine asked the family for at the first step of a clip, to be asked again."""

    family: Any
    latents: Tensor
    time: StepTime
    plan: Plan
    conditions: Any

    def load(self) -> Any:
        return self.family.load("transformer", **CPU)

    def flow(self, network: Any, *, step: int = 0, shifted: float = 0.0) -> Tensor:
        """The guided flow at a step; `shifted` changes the latents a little, as a step of a clip does."""
        found: Tensor = self.family.velocity(
            network,
            self.latents + shifted,
            time=replace(self.time, step=step),
            plan=self.plan,
            conditions=self.conditions,
            on_pass=lambda: None,
        )
        return found


class FirstCall(Protocol):
    def __call__(self, model: str, *, long: bool = False) -> Call: ...


class _Enough(Exception):
    pass


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model, made when it is first asked for."""
    made: dict[str, Path] = {}

    def folder(model: str) -> Path:
        if model not in made:
            made[model] = (MODELS | MORE_MODELS)[model](tmp_path_factory.mktemp(model))
        return made[model]

    return folder


@pytest.fixture(scope="session")
def first_call(folders: Callable[[str], Path]) -> FirstCall:
    """Caught from a real clip, so that everything is as the engine has it; a long one has four blocks of tokens."""
    caught: dict[tuple[str, bool], Call] = {}

    def call(model: str, *, long: bool = False) -> Call:
        if (model, long) not in caught:
            caught[model, long] = _catch(folders(model), long=long)
        return caught[model, long]

    return call


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def wish(folder: Path, **fields: Any) -> Request:
    """A short clip in three steps, from the same seed each time."""
    common = {"prompt": "a red ball falls", "negative_prompt": "a cube", "seed": 7, "steps": 3, "guidance": 3.0}
    return Request.parse({**common, "model": str(folder), "width": 32, "height": 32, "num_frames": 9, **fields})


def _catch(folder: Path, *, long: bool) -> Call:
    found: list[Call] = []
    with Session() as session, pytest.MonkeyPatch.context() as patch:
        family: Any = session.family(str(folder))

        def velocity(self: Any, denoiser: Any, latents: Tensor, **others: Any) -> Tensor:
            named = {name: others[name] for name in ("time", "plan", "conditions")}
            found.append(Call(family, latents.clone(), **named))
            raise _Enough

        patch.setattr(type(family), "velocity", velocity)
        with pytest.raises(_Enough):
            generate(_fitting(folder, family, long=long), session=session)
    return found[0]


def _fitting(folder: Path, family: Any, *, long: bool) -> Request:
    """Of three latent frames, each of 2 x 2 tokens or of 9 x 9 (243 in all, so that the last block is ragged)."""
    grid, side = family.grid, 9 if long else 2
    sides = {"width": max(32, side * grid.width_multiple), "height": max(32, side * grid.height_multiple)}
    return wish(folder, **sides, num_frames=2 * grid.frame_multiple + 1)
