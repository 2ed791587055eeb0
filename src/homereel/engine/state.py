"""The state of a half-made clip: save it after any step, and finish the clip later to the same bits."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from homereel.core.errors import InvalidRequest, MediaError, UnwritableTarget
from homereel.core.model import Stage
from homereel.core.plan import Plan
from homereel.core.request import Request
from homereel.sampling import SolverState

_FORMAT = "homereel-denoise-state-2"
_DECISIVE = (
    *("model", "width", "height", "num_frames", "fps", "steps", "guidance"),
    *("shift", "sampler", "seed", "passes", "guidance_2", "strength", "extend_from", "keyframes", "sound", "loras"),
    "sigmas",
)


@dataclass(frozen=True)
class DenoiseState:
    """What the loop needs to go on: the solver's state, the generator's, and whose clip it is.

    `stage` counts the stages that are done, and `done` is what the last of them left.
    """

    solver: SolverState
    generator: Tensor  # uint8, as torch.Generator gives it
    fingerprint: str
    stage: int = 0
    done: Tensor | None = None

    @property
    def step(self) -> int:
        """Steps done in this stage."""
        return self.solver.step

    def save(self, path: Path) -> None:
        """Write it as safetensors, whole or not at all. Raises UnwritableTarget."""
        tensors = {"sample": self.solver.sample, "generator": self.generator}
        tensors |= {f"history.{index}": past for index, past in enumerate(self.solver.history)}
        if self.done is not None:
            tensors["done"] = self.done
        kept = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        about = {"format": _FORMAT, "step": str(self.solver.step), "fingerprint": self.fingerprint}
        about |= {"stage": str(self.stage), "sum": _sum(kept)}
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
                # Copied, since sums over memory that is aligned otherwise may differ in the last bit.
                tensors = {name: stored.get_tensor(name).clone() for name in stored.keys()}  # noqa: SIM118
            if about.get("format") != _FORMAT:
                raise ValueError(f"its format is {about.get('format')!r}")
            if about.get("sum") != _sum(tensors):
                raise ValueError("its content is not what was written")
            num_past = sum(name.startswith("history.") for name in tensors)
            history = tuple(tensors[f"history.{index}"] for index in range(num_past))
            return cls(
                solver=SolverState(sample=tensors["sample"], step=int(about["step"]), history=history),
                generator=tensors["generator"],
                fingerprint=about["fingerprint"],
                stage=int(about["stage"]),
                done=tensors.get("done"),
            )
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise MediaError(f"{path} is no saved state of a clip: {error}; start the clip anew") from None


def _sum(tensors: dict[str, Tensor]) -> str:
    """A checksum over all bytes: a disk that lost power may keep a file's length and not its content."""
    total = 0
    for name in sorted(tensors):
        total = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, total)
    return f"{total:08x}"


def check_resumable(state: DenoiseState, *, stages: Sequence[Stage], fingerprint: str) -> None:
    """Raises InvalidRequest if the state is of another clip."""
    if state.fingerprint != fingerprint:
        raise InvalidRequest("the saved state is of another clip: its settings differ; start anew", field="resume")
    if state.stage >= len(stages) or state.step > stages[state.stage].steps_to_do:
        raise InvalidRequest("the saved state is past the clip's last step; start anew", field="resume")


def clip_fingerprint(request: Request, plan: Plan, *, inputs: dict[str, str]) -> str:
    """One word for everything that decides the latents, but the machine."""
    decisive = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "inputs": inputs,
        **{name: getattr(plan, name) for name in _DECISIVE},
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
