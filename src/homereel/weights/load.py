"""Fills a network from safetensors files: every name and shape must fit, or nothing is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from homereel.core.errors import WeightsError
from homereel.weights.model_folder import ModelFolder
from homereel.weights.safetensors_file import TensorInfo


def load_network(
    build: Callable[[], nn.Module],
    *,
    folder: ModelFolder,
    component: str,
    device: str,
    dtype: str,
    keep_float32: Iterable[str] = (),
    tied: Mapping[str, str] | None = None,
    names: Callable[[str], str | None] = lambda name: name,
) -> nn.Module:
    """A network in evaluation mode on `device`, its weights in `dtype`, without ever holding random ones. What it
    holds as whole numbers, as quantised layers do, stays so.

    `build` makes the network on the meta device, so buffers that files do not hold must be made anew by the
    caller. `keep_float32` names modules whose weights stay in float32; `tied` maps a name that the files may
    lack to the one that it shares; `names` says what a tensor of the files is called in the network, None if it has
    no place there.
    """
    named = {names(name): tensor for name, tensor in folder.tensors(component).items()}
    tensors = {name: tensor for name, tensor in named.items() if name is not None}
    network = _empty(build, component)
    _check_fit(network, tensors, component=component, tied=tied or {})
    target = getattr(torch, dtype)
    kept = frozenset(keep_float32)
    whole = {name for name, tensor in network.state_dict().items() if not tensor.is_floating_point()}
    state = {}
    for file in folder.weight_files(component):
        try:
            with safe_open(str(file), framework="pt", device=device) as stored:
                for stored_name in stored.keys():  # noqa: SIM118  # not a mapping
                    name = names(stored_name)
                    if name is None:
                        continue
                    tensor = stored.get_tensor(stored_name)
                    wanted = torch.float32 if kept.intersection(name.split(".")) else target
                    state[name] = tensor if name in whole else tensor.to(wanted)
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{file} cannot be loaded: {error}") from None
    for name, source in (tied or {}).items():
        if name not in state:
            state[name] = state[source]
    network.load_state_dict(state, strict=True, assign=True)
    return network.requires_grad_(False).eval()


def _empty(build: Callable[[], nn.Module], component: str) -> nn.Module:
    try:
        with torch.device("meta"):
            return build()
    except (TypeError, ValueError, KeyError, RuntimeError, ZeroDivisionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{component}/config.json does not describe a network: {reason}") from error


def _check_fit(
    network: nn.Module, tensors: Mapping[str, TensorInfo], *, component: str, tied: Mapping[str, str]
) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    missing = sorted(expected.keys() - tensors.keys() - {name for name in tied if tied[name] in tensors})
    if missing:
        raise WeightsError(f"{component} lacks {len(missing)} of its tensors, such as {missing[0]}")
    foreign = sorted(tensors.keys() - expected.keys())
    if foreign:
        raise WeightsError(f"{component} holds {len(foreign)} tensors that it has no use for, such as {foreign[0]}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name]:
            raise WeightsError(
                f"{component}: {name} has shape {tensor.shape} where config.json asks for {expected[name]}"
            )
