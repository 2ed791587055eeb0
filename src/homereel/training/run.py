"""A training run's folder: budget, learning-rate schedule, log, moving average, checkpoints that resume, loss plot."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from homereel.training.ranks import Rank

CHECKPOINT_SECONDS = 120.0


@dataclass
class Budget:
    """How long a stage trains: a number of steps, or of seconds whichever machine runs it. Survives a resume."""

    num_steps: int | None = None
    seconds: float | None = None
    step: int = 0
    spent_seconds: float = 0.0
    _since: float = field(default_factory=time.monotonic)

    def share(self) -> float:
        """How much of the budget is used up, 0 to 1."""
        if self.num_steps is not None:
            return min(self.step / self.num_steps, 1.0)
        return min(self.elapsed() / (self.seconds or 1.0), 1.0)

    def elapsed(self) -> float:
        """Seconds spent on this stage over all its sittings."""
        return self.spent_seconds + time.monotonic() - self._since

    def left(self) -> float:
        """Seconds to go at the pace so far."""
        share = self.share()
        return self.elapsed() * (1 - share) / share if share else math.inf

    def resume(self, *, step: int, spent_seconds: float) -> None:
        """Go on from what an earlier sitting used."""
        self.step, self.spent_seconds, self._since = step, spent_seconds, time.monotonic()


def learning_rate_factor(share: float, step: int, *, warm_up_steps: int, floor: float = 0.02) -> float:
    """Linear warm-up, then a cosine from 1 down to `floor`."""
    return min(1.0, (step + 1) / warm_up_steps) * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share)))


class MovingAverage:
    """Exponential moving average of a module's parameters, with a decay that starts low."""

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self.values = {name: p.detach().float().clone() for name, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module, *, step: int) -> None:
        """Move towards the module's present parameters."""
        weight = 1 - min(self.decay, (1 + step) / (15 + step))
        for name, p in module.named_parameters():
            self.values[name].lerp_(p.detach().float(), weight)

    def copy_to(self, module: nn.Module) -> None:
        """Overwrite a module's parameters with the average."""
        with torch.no_grad():
            for name, p in module.named_parameters():
                p.copy_(self.values[name])


@dataclass
class Run:
    """One stage's folder: `log.jsonl`, `checkpoint.safetensors` + `.json`, `loss.png`."""

    folder: Path
    rank: Rank
    on_line: Callable[[str], None] = print
    _saved_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def log(self, budget: Budget, **figures: float) -> None:
        """Append one row of figures; shown as a line with the time left, too."""
        if not self.rank.is_first:
            return
        progress = {"step": budget.step, "seconds": budget.elapsed(), "share": budget.share()}
        row = {name: float(f"{value:.5g}") for name, value in {**progress, **figures}.items()}
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        shown = "  ".join(f"{name} {row[name]:g}" for name in figures)
        left = f"{budget.left() / 60:.0f} min left" if math.isfinite(budget.left()) else "…"
        self.on_line(f"{self.folder.name}: step {budget.step}  {budget.share():.0%}  {left}  {shown}")

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return self.rank.is_first and time.monotonic() - self._saved_at > CHECKPOINT_SECONDS

    def save(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Write a checkpoint in one rename; the one before stays until then."""
        from safetensors.torch import save_file

        if not self.rank.is_first:
            return
        partial = self.folder / ".checkpoint.partial"
        flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(flat, partial, metadata={"state": json.dumps(dict(state))})
        partial.replace(self.folder / "checkpoint.safetensors")
        self._saved_at = time.monotonic()

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The last checkpoint, or None where there is none."""
        from safetensors import safe_open

        path = self.folder / "checkpoint.safetensors"
        if not path.exists():
            return None
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, json.loads(file.metadata()["state"])


def pack(model: nn.Module, average: MovingAverage, *optimizers: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Everything tensor-valued that a stage needs to go on, under flat names."""
    tensors: dict[str, Tensor] = {f"model.{name}": p.data for name, p in model.named_parameters()}
    tensors |= {f"average.{name}": value for name, value in average.values.items()}
    for k, optimizer in enumerate(optimizers):
        for i, slots in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer{k}.{i}.{slot}": torch.as_tensor(value) for slot, value in slots.items()}
    return tensors


def unpack(
    tensors: Mapping[str, Tensor],
    model: nn.Module,
    average: MovingAverage,
    *optimizers: torch.optim.Optimizer,
) -> None:
    """The inverse of `pack`, in place."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(tensors[f"model.{name}"])
            average.values[name].copy_(tensors[f"average.{name}"])
    for k, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith(f"optimizer{k}."):
                _, index, slot = name.split(".", 2)
                state.setdefault(int(index), {})[slot] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
