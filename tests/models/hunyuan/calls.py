"""How tests of the HunyuanVideo-1.5 adapter open a tiny model and call its transformer, and watch what is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from homereel.core.machine import Machine
from homereel.core.plan import Plan
from homereel.core.protocols import StepTime
from homereel.core.request import Request
from homereel.models.hunyuan.family import HunyuanConditions, HunyuanFamily, HunyuanText
from homereel.models.registry import model_family
from homereel.planning.plan import plan_clip

CPU = {"device": "cpu", "dtype": "float32"}


def family_of(folder: Path) -> HunyuanFamily:
    family = model_family(str(folder))
    assert isinstance(family, HunyuanFamily)
    return family


def plan_of(family: HunyuanFamily, **wishes: int) -> Plan:
    request = Request(prompt="a red ball", model=family.model, seed=1)
    machine = Machine(device="cpu", name="", num_threads=1, ram_bytes=10**9, vram_bytes=None, bf16_fast=False)
    return plan_clip(request.replace(**wishes), model=family, machine=machine, fresh_seed=0)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def flow(family: HunyuanFamily, network: Any, latents: Tensor, *, at: float = 900.0, passes: int = 0) -> Tensor:
    """One step, with guidance, of texts 7 and 5 tokens long; `passes` is how many calls are to be seen."""
    prompt, negative = (HunyuanText(noise(1, length, 16, seed=length), noise(1, 3, 12, seed=3)) for length in (7, 5))
    calls: list[None] = []
    velocity = family.velocity(
        network,
        latents,
        time=StepTime(stage=0, step=0, timestep=torch.tensor(at), next_timestep=0.0, sigma=at / 1000),
        plan=plan_of(family),
        conditions=HunyuanConditions(prompt, negative),
        on_pass=lambda: calls.append(None),
    )
    assert passes in (0, len(calls))
    return velocity


class Squares(TorchDispatchMode):
    """Notes every tensor that any operation makes whose last two sides are both at least as long as the clip."""

    def __init__(self, side: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.side, self.found = side, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple) else (out,):
            if isinstance(tensor, Tensor) and tensor.ndim > 1 and min(tensor.shape[-2:]) >= self.side:
                self.found += 1
        return out
