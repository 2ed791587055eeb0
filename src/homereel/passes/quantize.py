"""Linear layers of the blocks in 8 bits: half the memory of 16, and faster where the GPU multiplies them faster."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from homereel.core.errors import UnsupportedPass
from homereel.core.machine import Machine
from homereel.core.protocols import Component, Family, Undo
from homereel.kernels.int8_linear import QuantizedActivation, Scheme, quantize_weight, support
from homereel.kernels.int8_linear.modules import BlockInt8Linear, Fp8Linear, Int8Linear, QuantizedLinear
from homereel.kernels.int8_linear.schemes import scale_shape
from homereel.passes.blocks import Changes, blocks_of
from homereel.passes.technique import Technique
from homereel.weights.safetensors_file import TensorInfo

MODULES: dict[Scheme, type[QuantizedLinear]] = {"int8": Int8Linear, "int8_block": BlockInt8Linear, "fp8": Fp8Linear}
# Of what lies in the blocks: the projection of sparse attention is float32 by design, modulation sees one token, the
# gates of heads are a handful of numbers each, and VACE's blocks hand on through layers that began as zeros.
# Embeddings and the last layer lie outside of the blocks.
SKIPPED = ("proj_l", "norm", "to_gate_logits", "proj_in", "proj_out")
# What diffusers calls the repeated blocks of a denoiser, and those beside them; a refiner's are none of these.
_IN_BLOCKS = re.compile(r"(transformer_|vace_)?blocks\.\d+\..*\.weight")
_SCALE_BYTES = 4
# Layers of an attention that are given the same tokens, one after the other.
_ALIKE = (("to_q", "to_k", "to_v"), ("add_q_proj", "add_k_proj", "add_v_proj"))


@dataclass(frozen=True)
class Quantize(Technique):
    """`scheme` is int8 (a scale a token and an output), int8_block (128 x 128, as TurboWan's files), or fp8."""

    exactness: ClassVar[str] = "approximate"
    undo_holds_weights: ClassVar[bool] = True
    scheme: Scheme = "int8"

    @property
    def name(self) -> str:
        return self.scheme

    @property
    def spec(self) -> str:
        return self.scheme

    def check(self, family: Family, machine: Machine) -> None:
        """A machine without a kernel computes the same in plain PyTorch; a GPU that is too old is refused."""
        if machine.device == "cpu":
            return
        reason = support(self.scheme, device=torch.device(machine.device))
        if reason is not None:
            other = "int8" if self.scheme == "fp8" else "sparse_attention or step_cache"
            raise UnsupportedPass(f"{self.name}: {reason}; {family.model} can use {other} instead")

    def apply(self, component: Component, family: Family) -> Undo:
        changes, found = Changes(), 0
        try:
            for block in blocks_of(component, family, name=self.name, side=True):
                for owner, names in list(_groups(block)):
                    self._replace(owner, names, changes=changes)
                    found += len(names)
            if not found:
                raise UnsupportedPass(f"{self.name}: the blocks of {family.model} have no linear layers; leave it out")
        except BaseException:
            changes.undo()
            raise
        return changes.undo

    def freed_bytes(self, tensors: Mapping[str, TensorInfo], *, item_bytes: int) -> int:
        """What a denoiser of these files takes less once it is in 8 bits, if it was loaded with so many bytes a number.

        It is loaded first, and then changed layer by layer.
        """
        freed = 0
        for name, tensor in tensors.items():
            if len(tensor.shape) == 2 and tensor.dtype != "I8" and _IN_BLOCKS.fullmatch(name) and not _skipped(name):
                rows, columns = tensor.shape
                freed += rows * columns * (item_bytes - 1)
                freed -= math.prod(scale_shape(rows, columns, scheme=self.scheme)) * _SCALE_BYTES
        return freed

    def _replace(self, owner: nn.Module, names: tuple[str, ...], *, changes: Changes) -> None:
        """Layers that take the same input share what it is in 8 bits."""
        shared = SharedInput(len(names)) if len(names) > 1 else None
        for name in names:
            layer = self._in_eight_bits(owner._modules[name])
            if layer is not None:
                changes.replace_module(owner, name, layer if shared is None else SharingLinear(layer, shared))

    def _in_eight_bits(self, old: Any) -> QuantizedLinear | None:
        """A layer of this scheme, with GELU if the old one has it; None to leave it as it is.

        One that is in 8 bits already, as its file has it, keeps its numbers where the scheme is the same.
        """
        kind, gelu = MODULES[self.scheme], not isinstance(old, (nn.Linear, QuantizedLinear))
        layer = old.proj if gelu else old  # the first half of diffusers' feed-forward
        if isinstance(layer, nn.Linear):
            return kind.from_linear(layer, gelu=gelu)
        listened = bool(layer._forward_hooks)  # a LoRA beside it, which comes before GELU
        if isinstance(layer, kind):
            if not gelu or listened:
                return None if gelu else layer
            return kind.from_tensors(layer.values, scale=layer.scale, bias=layer.bias, gelu=True)
        if listened:
            raise UnsupportedPass(
                f"{self.name}: the layers are in {layer.scheme} already, with a LoRA beside them; leave {self.name} out"
            )
        values, scale = quantize_weight(layer.dequantised(), scheme=self.scheme)
        return kind.from_tensors(values, scale=scale, bias=layer.bias, gelu=gelu)


class SharedInput:
    """The input that several layers are given one after the other, in 8 bits; held until the last of them had it."""

    def __init__(self, num_layers: int) -> None:
        self._num_layers, self._left = num_layers, 0
        self._x: Tensor | None = None
        self._quantized: QuantizedActivation | None = None

    def of(self, x: Tensor, layer: QuantizedLinear) -> QuantizedActivation:
        """`x` in 8 bits; the same tensor is not quantised again."""
        if self._quantized is None or self._x is not x:
            self._x, self._quantized, self._left = x, layer.quantize(x), self._num_layers
        quantized = self._quantized
        self._left -= 1
        if self._left == 0:
            self._x = self._quantized = None
        return quantized


class SharingLinear(nn.Module):
    """A layer in 8 bits beside others that take the same input."""

    def __init__(self, layer: QuantizedLinear, shared: SharedInput) -> None:
        super().__init__()
        self.layer, self._shared = layer, shared

    def forward(self, x: Tensor | QuantizedActivation) -> Tensor:
        shared = None if isinstance(x, QuantizedActivation) else self._shared.of(x, self.layer)
        out: Tensor = self.layer(x, quantized=shared)
        return out


def scheme_taken(layers: Sequence[nn.Module]) -> Scheme | None:
    """The scheme in which these layers all take one input that has a scale a token; None if one of them does not.

    A layer that something listens to, such as a LoRA beside it, wants numbers.
    """
    schemes = {_scheme_of_layer(layer) for layer in layers}
    return schemes.pop() if len(schemes) == 1 else None


def _scheme_of_layer(layer: nn.Module) -> Scheme | None:
    inner = layer.layer if isinstance(layer, SharingLinear) else layer
    listened = any(part._forward_hooks or part._forward_pre_hooks for part in (layer, inner))
    if listened or not isinstance(inner, QuantizedLinear) or inner.scheme == "int8_block":
        return None
    return inner.scheme


def _groups(block: nn.Module) -> Iterator[tuple[nn.Module, tuple[str, ...]]]:
    """Layers of a block to quantise, by the module that holds them; those that may share their input together."""
    for path, owner in block.named_modules():
        if _skipped(path) or _is_layer(owner):
            continue
        names = [name for name, part in owner.named_children() if not _skipped(name) and _is_layer(part)]
        for alike in _ALIKE:
            together = tuple(name for name in alike if name in names and _same_inputs(owner, alike[0], name))
            if len(together) > 1:
                yield owner, together
                names = [name for name in names if name not in together]
        for name in names:
            yield owner, (name,)


def _is_layer(part: nn.Module) -> bool:
    """A Linear that is no half of something larger, or a Linear with the GELU that a kernel can take in."""
    linear = (nn.Linear, QuantizedLinear)
    if isinstance(part, linear):
        return True
    return getattr(part, "approximate", None) == "tanh" and isinstance(getattr(part, "proj", None), linear)


def _same_inputs(owner: nn.Module, first: str, name: str) -> bool:
    layers: Any = owner._modules
    return bool(layers[first] is not None and layers[first].in_features == layers[name].in_features)


def _skipped(path: str) -> bool:
    return any(part in path for part in SKIPPED)
