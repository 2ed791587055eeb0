"""Puts LoRAs into a loaded network, and takes them out again.

A change is computed in float32 and added to the weight; several to one weight are added together and rounded once.
Weights that cannot be added to (quantised ones) get a branch beside their layer. To undo bit for bit, the changed
weights are kept on the CPU: subtracting would leave rounding errors, and files need not hold what was loaded. That
costs as much memory as the changed weights; whoever will not undo says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from homereel.core.errors import InvalidRequest, WeightsError
from homereel.weights.lora.branch import Branch, BranchHandle, takes_branch
from homereel.weights.lora.file import LoraFile
from homereel.weights.lora.match import Change, LoraMatch, Shape, check_methods, describe_unmatched, match_lora
from homereel.weights.lora.names import Target

_ADDABLE = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_Files: TypeAlias = Mapping[Path, Any]  # open safetensors files by their paths


@dataclass(frozen=True)
class _Part:
    """One LoRA's change of a parameter, times the strength that is wanted."""

    lora: LoraFile
    change: Change
    strength: float


@dataclass
class AppliedLoras:
    """What was done: `warnings` are sentences for the user. `undo` restores the network bit for bit."""

    warnings: tuple[str, ...]
    num_merged: int = 0
    num_branches: int = 0
    _network: nn.Module | None = None
    _originals: dict[str, Tensor] = field(default_factory=dict)
    _branches: list[BranchHandle] = field(default_factory=list)

    @property
    def kept_bytes(self) -> int:
        """Memory of the CPU that the weights take which undoing needs."""
        return sum(tensor.nbytes for tensor in self._originals.values())

    def undo(self) -> None:
        """Take the LoRAs out again; later ones first, if there are several. A second time does nothing."""
        while self._branches:
            self._branches.pop().remove()
        with torch.no_grad():
            for name, tensor in self._originals.items():
                assert self._network is not None
                _parameter(self._network, name).copy_(tensor)
        self._originals.clear()
        self._network = None


def apply_loras(
    network: nn.Module,
    loras: Sequence[tuple[LoraFile, float]],
    *,
    component: str = "transformer",
    undoable: bool = True,
) -> AppliedLoras:
    """Add LoRAs, each with its strength, to a network; all or none of them.

    `component` is which of a model's networks this is: "transformer" or "transformer_2". Raises WeightsError if a
    LoRA is damaged, uses more than plain LoRA, or has nothing that applies; tensors that do not apply are told in
    `warnings`. Without `undoable` no memory is kept; the network must then be loaded anew to be rid of them, also
    if reading fails midway.
    """
    shapes = network_shapes(network)
    warnings: list[str] = []
    parts: dict[str, list[_Part]] = {}
    for lora, strength in loras:
        match = _checked_match(lora, shapes, strength=strength, component=component)
        warnings += [f"{lora.name}: {sentence}" for sentence in describe_unmatched(match)]
        for change in match.changes:
            if not _is_reachable(network, change):
                warnings.append(f"{lora.name}: {change.parameter} is quantised in a way that cannot be changed")
            elif strength:
                parts.setdefault(change.parameter, []).append(_Part(lora, change, strength))
    applied = AppliedLoras(tuple(warnings), _network=network)
    with ExitStack() as stack:
        files = {lora.path: _open(lora, stack) for lora, _ in loras}
        _check_numbers(parts, files=files)
        try:
            for name, changes in parts.items():
                _apply(applied, network, name, changes, files=files, undoable=undoable)
        except BaseException:
            applied.undo()
            raise
    return applied


def network_shapes(network: nn.Module) -> dict[str, Shape]:
    """The shapes of a network's weights by name; of quantised linear layers those that they stand for."""
    shapes = {name: tuple(tensor.shape) for name, tensor in network.named_parameters()}
    shapes |= {name: tuple(tensor.shape) for name, tensor in network.named_buffers() if name.endswith(".bias")}
    for name, layer in network.named_modules():
        if takes_branch(layer):
            shapes[f"{name}.weight"] = (layer.out_features, layer.in_features)
    return shapes


def _checked_match(lora: LoraFile, shapes: Mapping[str, Shape], *, strength: float, component: str) -> LoraMatch:
    if not math.isfinite(strength):
        raise InvalidRequest(f"the strength of {lora.name} is {strength}; give a number such as 0.8", field="loras")
    check_methods(lora)
    match = match_lora(lora, shapes, component=component)
    if not match.changes:
        reasons = describe_unmatched(match, examples=1)
        why = reasons[0] if reasons else "all of it is for the model's other expert"
        raise WeightsError(
            f"{lora.path} has nothing that applies to this model: {why}; `homereel lora check {lora.name}` tells what "
            "it was made for"
        )
    return match


def _is_reachable(network: nn.Module, change: Change) -> bool:
    if _is_addable(_find(network, change.parameter)):
        return True
    layer, _, leaf = change.parameter.rpartition(".")
    return leaf == "weight" and takes_branch(network.get_submodule(layer))


def _is_addable(tensor: object) -> bool:
    """Whether it is a plain tensor of floating-point numbers; quantised ones are of other types or of integers."""
    return (
        isinstance(tensor, Tensor)
        and type(tensor) in (Tensor, nn.Parameter)
        and type(tensor.data) is Tensor
        and tensor.dtype in _ADDABLE
    )


def _check_numbers(parts: Mapping[str, Sequence[_Part]], *, files: _Files) -> None:
    """Before anything is changed, see that all can be read and is finite."""
    for changes in parts.values():
        for part in changes:
            for key in part.change.keys:
                if not bool(torch.isfinite(_read(files, part.lora, key).float()).all()):
                    raise WeightsError(f"{part.lora.path}: {key} holds numbers that are not finite")


def _apply(
    applied: AppliedLoras,
    network: nn.Module,
    name: str,
    parts: Sequence[_Part],
    *,
    files: _Files,
    undoable: bool,
) -> None:
    tensor = _find(network, name)
    if not _is_addable(tensor):
        layer = network.get_submodule(name.rpartition(".")[0])
        for part in parts:
            applied._branches.append(BranchHandle(layer, _branch(part, files=files, like=layer)))
            applied.num_branches += 1
        return
    with torch.no_grad():
        if undoable:
            applied._originals[name] = tensor.detach().to("cpu", copy=True)
        changed = tensor.to(torch.float32, copy=True) if tensor.dtype != torch.float64 else tensor.clone()
        for part in parts:
            down, up = _halves(part, files=files, device=tensor.device)
            factor = part.change.scale * part.strength
            change = up if down is None else up.flatten(1) @ down.flatten(1)
            changed += factor * change.reshape(changed.shape)
        tensor.copy_(changed)
    applied.num_merged += 1


def _branch(part: _Part, *, files: _Files, like: nn.Module) -> Branch:
    nearest = next((tensor for tensor in _tensors(like)), torch.empty(0))
    keys = part.change.keys
    up = _rows(_read(files, part.lora, keys[-1]), part.change.target).flatten(1)
    down = _read(files, part.lora, keys[0]).flatten(1) if len(keys) == 2 else None
    factor = part.change.scale * part.strength
    return Branch(down, up.contiguous(), factor=factor).to(nearest.device)


def _halves(part: _Part, *, files: _Files, device: torch.device) -> tuple[Tensor | None, Tensor]:
    """What is to be multiplied, or None and the whole, in float32, with only the rows that are meant."""
    keys = part.change.keys
    up = _rows(_read(files, part.lora, keys[-1]).to(device, torch.float32), part.change.target)
    down = _read(files, part.lora, keys[0]).to(device, torch.float32) if len(keys) == 2 else None
    return down, up


def _rows(tensor: Tensor, target: Target) -> Tensor:
    rows = tensor.chunk(target.parts)[target.part]
    if not target.swapped:
        return rows
    first, second = rows.chunk(2)
    return torch.cat([second, first])


def _open(lora: LoraFile, stack: ExitStack) -> Any:
    try:
        return stack.enter_context(safe_open(str(lora.path), framework="pt"))
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{lora.path} cannot be read: {error}") from None


def _read(files: _Files, lora: LoraFile, key: str) -> Tensor:
    try:
        tensor: Tensor = files[lora.path].get_tensor(key)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{lora.path} cannot be read: {error}") from None
    return tensor


def _tensors(layer: nn.Module) -> Iterator[Tensor]:
    yield from layer.parameters(recurse=False)
    yield from layer.buffers(recurse=False)


def _find(network: nn.Module, name: str) -> Any:
    layer, _, leaf = name.rpartition(".")
    return getattr(network.get_submodule(layer), leaf, None)


def _parameter(network: nn.Module, name: str) -> Tensor:
    tensor: Tensor = _find(network, name)
    return tensor
