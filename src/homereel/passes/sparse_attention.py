"""Attention of a picture's tokens to themselves, to a share of its blocks only (arXiv 2509.24006).

Without tuned weights a clip comes out close to the dense one, not the same; with weights that were tuned for it, what
the left-out blocks would have said comes back through a projection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from homereel.core.errors import UnsupportedPass, WeightsError
from homereel.core.machine import Machine
from homereel.core.protocols import Component, Family, Undo
from homereel.kernels.sparse_linear_attention import sparse_linear_attention, support
from homereel.passes.attention import SelfAttention, StreamSelfAttention, WanSelfAttention
from homereel.passes.blocks import Changes, blocks_of, part_of
from homereel.passes.steps import Progress, watch_steps
from homereel.passes.technique import Technique, number, refuse_setting, setting, yes_or_no
from homereel.passes.token_order import ORDERS, PLAIN, reorder_tokens
from homereel.weights.safetensors_file import read_header

LAYOUTS: Mapping[str, type[SelfAttention]] = {"wan": WanSelfAttention, "two streams": StreamSelfAttention}
ATTENTION = "attn1"
# What the projection of a block is called in a file, in diffusers' order of things and in TurboWan's.
_PROJECTIONS = ("blocks.{}.attn1.processor.proj_l.", "blocks.{}.self_attn.attn_op.local_attn.proj_l.")


def _shares(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split("+"))


@dataclass(frozen=True)
class SparseAttention(Technique):
    """Each block of queries keeps the share `ratio` of the blocks of keys, or a share of its own a layer (`ratios`).

    The first layers, and the first share of a clip's steps, where the picture is laid out, stay dense. `weights` is a
    safetensors file with the projections of a tuned model; one that has them in its folder needs none. `eight_bit`
    multiplies in 8 bits, on GPUs only. `order` says how tokens follow each other, and so which lie in one block:
    frames, rows, columns (`thw`), or another order of these.
    """

    name: ClassVar[str] = "sparse_attention"
    exactness: ClassVar[str] = "approximate"
    ratio: float = setting(0.15, read=float, write=number)
    first_layers: int = setting(1, read=int)
    first_steps: float = setting(0.1, read=float, write=number)
    ratios: tuple[float, ...] = setting((), read=_shares, write=lambda values: "+".join(map(number, values)))
    weights: Path | None = setting(None, read=Path)  # noqa: RUF009
    eight_bit: bool = setting(False, read=yes_or_no, write=lambda value: "yes" if value else "no")
    order: str = setting(PLAIN, read=str)

    def __post_init__(self) -> None:
        for share in (self.ratio, *self.ratios):
            if not 0 < share <= 1:
                raise refuse_setting(self.name, f"{share:g} of the blocks cannot be kept; give more than 0, at most 1")
        if not 0 <= self.first_steps <= 1 or self.first_layers < 0:
            raise refuse_setting(self.name, "first_steps is a share from 0 to 1, first_layers a count from 0")

        if self.order not in ORDERS:
            raise refuse_setting(self.name, f"order is one of {', '.join(ORDERS)}, not {self.order!r}")

    @property
    def files(self) -> tuple[Path, ...]:
        return () if self.weights is None else (self.weights,)

    def check(self, family: Family, machine: Machine) -> None:
        blocks = family.block_facts
        if blocks.layout not in LAYOUTS:
            raise UnsupportedPass(
                f"{self.name}: in {family.model} picture and words attend together, and leaving out blocks could leave "
                "out the words; use step_cache, int8 or fp8 instead"
            )
        if self.ratios and len(self.ratios) != blocks.num_blocks:
            raise refuse_setting(self.name, f"{len(self.ratios)} ratios for the {blocks.num_blocks} layers")
        if self.order != PLAIN and (blocks.layout != "wan" or blocks.num_side_blocks):
            raise refuse_setting(self.name, f"tokens of {family.model} have one order only; leave order out")
        if self.weights is not None:
            self._check_weights(family)
        reason = kernel_reason(machine, head_size=blocks.head_size, eight_bit=self.eight_bit)
        if reason is not None:
            raise UnsupportedPass(f"{self.name}: {reason}; leave it out, or use step_cache instead")

    def apply(self, component: Component, family: Family) -> Undo:
        changes, progress = Changes(), Progress(first_share=self.first_steps)
        kind, tuned = LAYOUTS[family.block_facts.layout], self._read_weights(family)
        try:
            length = family.block_facts.num_blocks
            for index, block in enumerate(blocks_of(component, family, name=self.name, side=True)):
                attention: Any = part_of(block, ATTENTION, name=self.name, family=family)
                made = kind.from_processor(attention.processor)
                own = getattr(attention, "proj_l", None)  # of a model whose sparse attention was tuned
                numbers = tuned.get(index) or (None if own is None else own.state_dict())
                part = next(chain(attention.parameters(), attention.buffers()))
                projection = made.add_projection(family.block_facts.head_size, device=part.device)
                if numbers is not None:
                    projection.load_state_dict(numbers)
                layer = index if index < length else self.first_layers  # blocks beside the chain are no first ones
                if layer >= self.first_layers:
                    ratio = self.ratios[index] if self.ratios and index < length else self.ratio
                    made.attend = partial(
                        attend_sparsely,
                        ratio=ratio,
                        tuned=numbers is not None,
                        eight_bit=self.eight_bit,
                        progress=progress,
                    )
                changes.set_processor(attention, made)
            changes.then(reorder_tokens(component, family, order=self.order, name=self.name))
            changes.then(watch_steps(component, progress))
        except BaseException:
            changes.undo()
            raise
        return changes.undo

    def _check_weights(self, family: Family) -> None:
        assert self.weights is not None
        shapes = {name: tensor.shape for name, tensor in read_header(self.weights).items()}
        size = family.block_facts.head_size
        for index in range(family.block_facts.num_blocks):
            prefix = _prefix(index, shapes)
            if prefix is None or shapes[prefix + "weight"] != (size, size) or shapes.get(prefix + "bias") != (size,):
                raise WeightsError(
                    f"{self.weights} has no projection of {size}x{size} for block {index} of {family.model}; "
                    "it was tuned for another model"
                )

    def _read_weights(self, family: Family) -> dict[int, dict[str, Tensor]]:
        """The projection of each block, if they are given."""
        if self.weights is None:
            return {}
        from safetensors import safe_open

        self._check_weights(family)
        names = read_header(self.weights)
        with safe_open(str(self.weights), framework="pt") as stored:
            return {
                index: {part: stored.get_tensor(f"{_prefix(index, names)}{part}") for part in ("weight", "bias")}
                for index in range(family.block_facts.num_blocks)
            }


def _prefix(index: int, names: Mapping[str, object]) -> str | None:
    """What the file calls this block's projection."""
    known = (each.format(index) for each in _PROJECTIONS)
    return next((each for each in known if each + "weight" in names), None)


def attend_sparsely(
    q_BLHD: Tensor,
    k_BLHD: Tensor,
    v_BLHD: Tensor,
    *,
    projection: nn.Linear,
    ratio: float,
    tuned: bool,
    eight_bit: bool,
    progress: Progress,
) -> Tensor | None:
    """See `Attend`. Where every block would be kept and nothing was tuned, dense attention says the same faster."""
    if progress.early or (ratio == 1 and not tuned and not eight_bit):
        return None
    weight, bias = (projection.weight, projection.bias) if tuned else (None, None)
    return sparse_linear_attention(
        q_BLHD, k_BLHD, v_BLHD, ratio=ratio, proj_weight=weight, proj_bias=bias, eight_bit=eight_bit
    )


def kernel_reason(machine: Machine, *, head_size: int, eight_bit: bool) -> str | None:
    """Why there is no kernel for this on the machine, None if there is one."""
    device = torch.cuda.get_device_capability() if machine.device == "cuda" else machine.device
    return support(device, head_size, getattr(torch, machine.dtype), eight_bit=eight_bit)
