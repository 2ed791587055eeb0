"""A rectified-flow network as distillation sees it: from a noisy clip, its time and its words to a flow or a picture.

Along x = (1 - time) * clip + time * noise the network tells the flow, noise minus clip. Any network of Wan's kind will
do: `network(hidden_states, timestep, encoder_hidden_states, return_dict=False)`.
Shape letters: B batch, C channels, T latent frames, H height, W width, L text tokens, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from homereel.sampling import classifier_free_guidance, renoised

NUM_TRAIN_TIMESTEPS = 1000
TOLD = torch.bfloat16
"""Students of rCM are told the time in this format, in training as in sampling."""


@dataclass(frozen=True)
class Conditions:
    """The words of each clip, and its first frame where that is known (Wan2.2's TI2V-5B takes it at time zero)."""

    text_BLD: Tensor
    first_BC1HW: Tensor | None = None

    def without_words(self, empty_LD: Tensor) -> Conditions:
        """The same with the empty (or the negative) prompt."""
        return Conditions(empty_LD.to(self.text_BLD).expand_as(self.text_BLD), self.first_BC1HW)


@dataclass(frozen=True)
class Noisy:
    """Clips with so much of this noise."""

    clip: Tensor
    noise: Tensor
    time_B: Tensor
    conditions: Conditions

    @property
    def x(self) -> Tensor:
        """What the network is given."""
        return renoised(self.clip, self.noise, sigma=spread(self.time_B))


def velocity(
    network: Any, x: Tensor, time_B: Tensor, conditions: Conditions, *, told: torch.dtype | None = None
) -> Tensor:
    """The flow (B, C, T, H, W) in float32. `told` is the format to which the network's time is rounded.

    Where the first frame is known, the flow there leads exactly to it, so that no loss grades it.
    """
    timestep = time_B * NUM_TRAIN_TIMESTEPS
    if told is not None:
        timestep = timestep.to(told).float()
    first = conditions.first_BC1HW
    given = x
    if first is not None:
        given = torch.cat([first, x[:, :, 1:]], dim=2)
        timestep = _zero_in_first_frame(timestep, shape=x.shape, patch=network.config.patch_size)
    flow: Tensor = network(given, timestep, conditions.text_BLD, return_dict=False)[0]
    flow = flow.float()
    if first is not None:
        known = (x[:, :, :1] - first) / spread(time_B).clamp(min=1e-6)
        flow = torch.cat([known, flow[:, :, 1:]], dim=2)
    return flow


def picture(
    network: Any, x: Tensor, time_B: Tensor, conditions: Conditions, *, told: torch.dtype | None = None
) -> Tensor:
    """The clean clip as seen from here."""
    return x - spread(time_B) * velocity(network, x, time_B, conditions, told=told)


def spread(time_B: Tensor) -> Tensor:
    """A number a clip, in a shape that broadcasts over it."""
    return time_B.view(-1, 1, 1, 1, 1)


@dataclass(frozen=True)
class Teacher:
    """A network that needs guidance: two passes, with the prompt and without."""

    network: Any
    empty_LD: Tensor
    guidance: float

    @torch.no_grad()
    def velocity(self, x: Tensor, time_B: Tensor, conditions: Conditions) -> Tensor:
        """The guided flow."""
        wanted = velocity(self.network, x, time_B, conditions)
        if self.guidance == 1:
            return wanted
        without = velocity(self.network, x, time_B, conditions.without_words(self.empty_LD))
        return classifier_free_guidance(wanted, without, scale=self.guidance)


def _zero_in_first_frame(timestep_B: Tensor, *, shape: torch.Size, patch: tuple[int, int, int]) -> Tensor:
    """A time a token, (B, tokens): zero where the frame is known."""
    frames, rows, columns = (side // part for side, part in zip(shape[2:], patch, strict=True))
    later = torch.arange(frames * rows * columns, device=timestep_B.device) >= rows * columns
    return timestep_B.unsqueeze(1) * later
