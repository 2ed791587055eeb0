"""The two seams of the house: a Family says what a model is, a Pass changes how it computes.

The engine, the planner and the passes know models only through these. Tensors are opaque here, because core
does not import torch; the legend for shapes is B batch, C channels, T frames, H height, W width, L text
tokens, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from homereel.core.machine import Machine
from homereel.core.model import Defaults, Grid, Shapes
from homereel.core.request import Request

Tensor: TypeAlias = Any  # a torch.Tensor
Component: TypeAlias = Any  # a loaded network, such as a torch.nn.Module
Conditions: TypeAlias = Any  # what steers one pass of the denoiser; only the family that made it looks inside
Undo: TypeAlias = Callable[[], None]


class ModelFacts(Protocol):
    """What can be said of a model from its configuration alone: enough to plan a clip, without torch."""

    @property
    def model(self) -> str:
        """The name by which the user calls it."""
        ...

    @property
    def name(self) -> str:
        """The family, such as "wan"."""
        ...

    @property
    def inputs(self) -> frozenset[str]:
        """What it takes: "text", "image"."""
        ...

    @property
    def defaults(self) -> Defaults: ...

    @property
    def grid(self) -> Grid: ...

    @property
    def components(self) -> tuple[str, ...]:
        """The parts that `load` knows, in the order in which a clip needs them."""
        ...

    def shapes(self, *, width: int, height: int, num_frames: int, dtype: str) -> Shapes: ...

    def weight_bytes(self, component: str, *, dtype: str) -> int:
        """Memory that the component's weights take in this number format."""
        ...

    def files(self) -> Mapping[str, Path]:
        """Every file that decides what a clip looks like, by its path within the model."""
        ...

    def remarks(self, request: Request) -> tuple[str, ...]:
        """What the model has to say about this request, such as words that it does not know."""
        ...

    def vocabulary(self) -> tuple[str, ...]:
        """Every word that it knows, if these are few; empty for a model that takes any text."""
        ...


class Family(ModelFacts, Protocol):
    """A model that can compute; `load` brings in the weights of one component.

    Latents may have any shape: the engine draws noise of `shapes().latents` and solvers work element by
    element, so a family with sound can pack both streams into one tensor.
    """

    def load(self, component: str, *, device: str, dtype: str) -> Component: ...

    def encode_text(self, text_encoder: Component, text: str) -> Tensor:
        """(1, L, D), padded as the model was trained."""
        ...

    def encode_image(self, vae: Component, image: NDArray[np.uint8], *, width: int, height: int) -> Tensor:
        """Latents of a first frame, from (H, W, 3) of any size."""
        ...

    def conditions(self, text: Tensor, *, first_frame: Tensor | None) -> Conditions: ...

    def denoiser(self, timestep: float) -> str:
        """The component that computes at this time, 1000 down to 0; a model with two experts has two."""
        ...

    def velocity(self, denoiser: Component, latents: Tensor, *, timestep: Tensor, conditions: Conditions) -> Tensor:
        """The predicted flow from picture to noise, in float32 and in the shape of the latents."""
        ...

    def settle(self, latents: Tensor, *, conditions: Conditions) -> Tensor:
        """Put what is known, such as a given first frame, in the place of what was computed there."""
        ...

    def decode(self, vae: Component, latents: Tensor) -> NDArray[np.uint8]:
        """(T, H, W, 3). Raises GenerationFailed on numbers that are not finite."""
        ...

    def preview(self, vae: Component, latents: Tensor) -> NDArray[np.uint8]:
        """A few small frames (t, h, w, 3) at little cost, true in content and not in detail."""
        ...

    def blocks(self, denoiser: Component) -> Sequence[Component]:
        """The repeated blocks, in order, for passes."""
        ...


class Pass(Protocol):
    """A technique that changes how a component computes: a frozen dataclass that can be undone."""

    @property
    def name(self) -> str: ...

    @property
    def exactness(self) -> str:
        """exact, approximate or distilled."""
        ...

    def check(self, family: Family, machine: Machine) -> None:
        """Raises UnsupportedPass, with the reason and the way out."""
        ...

    def apply(self, component: Component, family: Family) -> Undo: ...
