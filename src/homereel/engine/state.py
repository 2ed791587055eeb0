"""The state of a half-made clip: save it after any step, and finish the clip later to the same bits."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from homereel.core.errors import InvalidRequest, MediaError, UnwritableTarget
from homereel.core.plan import Plan
from homereel.core.request import Request
from homereel.sampling import SolverState

_FORMAT = "homereel-denoise-state-1"
_DECISIVE = (
    *("model", "width", "height", "num_frames", "steps", "guidance"),
    *("shift", "sampler", "seed", "passes"),
)


@dataclass(frozen=True)
class DenoiseState:
    """What the loop needs to go on: the solver's state, the generator's, and whose clip it is."""

    solver: SolverState
    generator: Tensor  # uint8, as torch.Generator gives it
    fingerprint: str

    @property
    def step(self) -> int:
        """Steps done."""
        return self.solver.step

    def save(self, path: Path) -> None:
        """Write it as safetensors, whole or not at all. Raises UnwritableTarget."""
        tensors = {"sample": self.solver.sample, "generator": self.generator}
        tensors |= {f"history.{index}": past for index, past in enumerate(self.solver.history)}
        kept = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        about = {"format": _FORMAT, "step": str(self.solver.step), "fingerprint": self.fingerprint}
        try:
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
            os.close(handle)
        except OSError as error:
            raise UnwritableTarget(f"{path} cannot be written: {error.strerror or error}") from None
        try:
            save_file(kept, temporary, metadata=about)
            Path(temporary).replace(path)
        except (OSError, SafetensorError) as error:
            raise UnwritableTarget(f"{path} cannot be written: {error}") from None
        finally:
            Path(temporary).unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> DenoiseState:
        """Read what `save` wrote. Raises MediaError if it is anything else."""
        try:
            with safe_open(str(path), framework="pt") as stored:
                about = stored.metadata() or {}
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            if about.get("format") != _FORMAT:
                raise ValueError(f"its format is {about.get('format')!r}")
            history = tuple(tensors[f"history.{index}"] for index in range(len(tensors) - 2))
            solver = SolverState(sample=tensors["sample"], step=int(about["step"]), history=history)
            return cls(solver=solver, generator=tensors["generator"], fingerprint=about["fingerprint"])
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise MediaError(f"{path} is no saved state of a clip: {error}; start the clip anew") from None


def first_state(plan: Plan, *, shape: tuple[int, ...], fingerprint: str) -> DenoiseState:
    """Pure noise from the seed, drawn on the CPU so that it is the same on every device."""
    generator = torch.Generator("cpu").manual_seed(plan.seed)
    noise = torch.randn(shape, generator=generator, dtype=torch.float32)
    return DenoiseState(SolverState(sample=noise), generator=generator.get_state(), fingerprint=fingerprint)


def check_resumable(state: DenoiseState, *, plan: Plan, fingerprint: str) -> None:
    """Raises InvalidRequest if the state is of another clip."""
    if state.fingerprint != fingerprint:
        raise InvalidRequest("the saved state is of another clip: its settings differ; start anew", field="resume")
    if state.step > plan.steps:
        raise InvalidRequest(f"the saved state is past step {plan.steps}; start anew", field="resume")


def clip_fingerprint(request: Request, plan: Plan, *, inputs: dict[str, str]) -> str:
    """One word for everything that decides the latents, but the machine."""
    decisive = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "inputs": inputs,
        **{name: getattr(plan, name) for name in _DECISIVE},
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
