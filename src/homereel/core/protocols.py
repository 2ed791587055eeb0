"""The two seams of the house: a Family says what a model is, a Pass changes how it computes.

The engine, the planner and the passes know models only through these. Tensors are opaque here, because core
does not import torch; the legend for shapes is B batch, C channels, T frames, H height, W width, L text
tokens, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from homereel.core.inputs import Inputs
from homereel.core.machine import Machine
from homereel.core.model import Blocks, Defaults, Grid, Shapes, Stage
from homereel.core.plan import Plan
from homereel.core.sound import Sound

if TYPE_CHECKING:  # passes and kernels are used where pydantic is not installed
    from homereel.core.request import Request

Tensor: TypeAlias = Any  # a torch.Tensor
Component: TypeAlias = Any  # a loaded network, such as a torch.nn.Module
Words: TypeAlias = Mapping[str, Tensor]  # what a model's encoders make of one text
Conditions: TypeAlias = Any  # all that steers a clip; only the family that made it looks inside
Undo: TypeAlias = Callable[[], None]
Use: TypeAlias = Callable[[str], AbstractContextManager[Component]]
"""Lends a component by name: loaded before it is needed, and freed after it if the machine is small."""


@dataclass(frozen=True)
class StepTime:
    """Where the loop stands. `timestep` is what the network is told, 1000 down to 0, a scalar tensor."""

    stage: int
    step: int  # within the stage's schedule, first_step not counted
    timestep: Tensor
    next_timestep: float  # 0 after the last step
    sigma: float


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
        """What it takes: "text", and kinds of `homereel.core.inputs.OPTIONS` and `CLIP_OPTIONS`."""
        ...

    @property
    def required(self) -> frozenset[str]:
        """What of these it cannot do without, words aside."""
        ...

    @property
    def makes_sound(self) -> bool: ...

    @property
    def told_pace(self) -> bool:
        """Whether the network is told how many frames a second there are, and moves accordingly."""
        ...

    @property
    def defaults(self) -> Defaults: ...

    @property
    def grid(self) -> Grid: ...

    @property
    def components(self) -> tuple[str, ...]:
        """The parts that `load` knows, in the order in which a clip needs them."""
        ...

    @property
    def decoders(self) -> frozenset[str]:
        """Those of the components that turn latents into frames and sound."""
        ...

    @property
    def readers(self) -> frozenset[str]:
        """Those of the components that read words, and nothing else."""
        ...

    @property
    def block_facts(self) -> Blocks:
        """The blocks that passes take hold of."""
        ...

    def shapes(self, *, width: int, height: int, num_frames: int, dtype: str) -> Shapes: ...

    def stages(self, plan: Plan) -> tuple[Stage, ...]:
        """The runs of the denoising loop that this clip takes, in order; `plan.steps` are those of the first."""
        ...

    def compares_words(self, plan: Plan) -> bool:
        """Whether guidance compares the clip with the negative prompt's."""
        ...

    def weight_bytes(self, component: str, *, dtype: str) -> int:
        """Memory that the component's weights take in this number format."""
        ...

    def files(self) -> Mapping[str, Path]:
        """Every file that decides what a clip looks like, by its path within the model."""
        ...

    def remarks(self, request: Request) -> tuple[str, ...]:
        """What the model has to say about this request, such as words that it does not know.

        Raises InvalidRequest for a combination that it cannot make, such as a mask without footage.
        """
        ...

    def vocabulary(self) -> tuple[str, ...]:
        """Every word that it knows, if these are few; empty for a model that takes any text."""
        ...


class Family(ModelFacts, Protocol):
    """A model that can compute; `load` brings in the weights of one component.

    A clip goes read_words → encode → for each stage: begin, velocity a step, finish → decode_sound → decode. Latents
    may have any shape, since solvers work element by element: a family with sound packs both streams into one tensor.
    """

    def load(self, component: str, *, device: str, dtype: str) -> Component: ...

    def read_words(self, texts: Sequence[str], *, use: Use) -> tuple[Words, ...]:
        """What the encoders make of each text, in order and whatever the others are: it is kept for other clips.

        Whoever changes what comes out of it raises `_READ_WORDS` in `planning.words`.
        """
        ...

    def encode(self, inputs: Inputs, *, plan: Plan, use: Use, words: Sequence[Words]) -> Conditions:
        """Everything that steers the clip: pictures, footage, and `words`, which are what `read_words` made of the
        prompt and, if `compares_words`, of the negative prompt."""
        ...

    def begin(
        self,
        stage: int,
        noise: Sequence[Tensor],
        *,
        plan: Plan,
        conditions: Conditions,
        done: Tensor | None,
        sigma: float,
        use: Use,
    ) -> Tensor:
        """The latents that a stage starts from, where `sigma` is the share of noise in them.

        `noise` has the stage's shapes; `done` is what the stage before left, None at the first.
        """
        ...

    def denoiser(self, timestep: float) -> str:
        """The component that computes at this time, 1000 down to 0; a model with two experts has two."""
        ...

    def velocity(
        self,
        denoiser: Component,
        latents: Tensor,
        *,
        time: StepTime,
        plan: Plan,
        conditions: Conditions,
        on_pass: Callable[[], None],
    ) -> Tensor:
        """The guided flow from picture to noise, in float32 and in the shape of the latents.

        `on_pass` is called after every pass through the network, so that a stop takes effect within a step.
        """
        ...

    def finish(self, stage: int, latents: Tensor, *, plan: Plan, conditions: Conditions, done: Tensor | None) -> Tensor:
        """What the stage leaves: its latents, with what is known (such as a given first frame) in its place."""
        ...

    def decode_sound(self, latents: Tensor, *, plan: Plan, use: Use) -> Sound | None:
        """The sound if the plan asks for it. It comes before the frames, because a file takes both side by side.

        Raises GenerationFailed on numbers that are not finite.
        """
        ...

    def decode(self, latents: Tensor, *, plan: Plan, use: Use) -> Generator[NDArray[np.uint8]]:
        """The frames, as many as planned, in order: piece by piece (t, H, W, 3), so that a long clip is never held in
        numbers of the decoder's. A family whose decoder cannot be cut in time gives one piece. Closing it before its
        end gives back what it was lent.

        Raises GenerationFailed on numbers that are not finite.
        """
        ...

    def preview(self, stage: int, latents: Tensor, *, plan: Plan, use: Use) -> NDArray[np.uint8]:
        """A few small frames (t, h, w, 3) of a stage's latents at little cost, true in content and not in detail."""
        ...

    def blocks(self, denoiser: Component) -> Sequence[Component]:
        """The repeated blocks through which the latents go, in order, for passes."""
        ...

    def side_blocks(self, denoiser: Component) -> Sequence[Component]:
        """Blocks of the same kind beside these, such as those that look at what controls a clip; mostly none."""
        ...


class Pass(Protocol):
    """A technique that changes how a denoiser computes: a frozen dataclass that can be undone."""

    @property
    def name(self) -> str: ...

    @property
    def spec(self) -> str:
        """The name with its settings, in the words that choose it again, such as "sparse_attention:0.1"."""
        ...

    @property
    def exactness(self) -> str:
        """exact (but for rounding), approximate or distilled."""
        ...

    @property
    def remembers(self) -> bool:
        """Whether a step depends on the steps before it, so that a clip cannot be taken up in the middle."""
        ...

    @property
    def undo_holds_weights(self) -> bool:
        """Whether undo keeps the weights that were replaced; it is dropped where the component can be loaded anew."""
        ...

    @property
    def files(self) -> tuple[Path, ...]:
        """Files of its own that decide what a clip looks like, such as tuned weights."""
        ...

    def check(self, family: Family, machine: Machine) -> None:
        """Raises UnsupportedPass, with the reason and the way out."""
        ...

    def apply(self, component: Component, family: Family) -> Undo:
        """Change a loaded denoiser; undo makes it compute as before, to the bit.

        Raises UnsupportedPass if the denoiser is not what the family said, and leaves it as it was.
        """
        ...

    def start(self, component: Component) -> None:
        """Called on a component that it was applied to, at the start of each clip: forget the one before."""
        ...
