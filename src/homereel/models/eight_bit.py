"""Networks of which files keep linear layers in int8, with a scale a block of 128 x 128, as TurboWan's do.

They stay so where a kernel multiplies in 8 bits. Elsewhere they are unpacked when they are loaded, which is exact and
faster there, and takes the memory of the other type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from homereel.core.errors import WeightsError
from homereel.kernels.int8_linear import support
from homereel.kernels.int8_linear.modules import BlockInt8Linear
from homereel.weights.model_folder import ModelFolder

SCALE = "scale"  # the part of a layer that stays float32 whatever the rest becomes
_NUMBERS = ".int8_weight"


def int8_layers(folder: ModelFolder, component: str) -> tuple[str, ...]:
    """Names of the layers that the component's files keep in int8."""
    names = folder.tensors(component)
    return tuple(name.removesuffix(_NUMBERS) for name in names if name.endswith(_NUMBERS))


def stays_int8(device: str) -> bool:
    """Whether a kernel there multiplies them as they are."""
    return support("int8_block", device=torch.device(device)) is None


def with_int8_layers(build: Callable[[], nn.Module], layers: Iterable[str]) -> Callable[[], nn.Module]:
    """The same network, with these layers in int8. Raises WeightsError if it has no such layers."""

    def built() -> nn.Module:
        network = build()
        for name in layers:
            linear = _linear(network, name)
            made = BlockInt8Linear(linear.in_features, linear.out_features, bias=linear.bias is not None)
            _put(network, name, made)
        return network

    return built


def unpack_int8_layers(network: nn.Module, layers: Iterable[str], *, dtype: torch.dtype) -> None:
    """Make them plain linear layers of this type, one after the other."""
    for name in layers:
        layer = network.get_submodule(name)
        assert isinstance(layer, BlockInt8Linear), name
        with torch.device("meta"):
            linear = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
        linear.weight = nn.Parameter(layer.dequantised().to(dtype), requires_grad=False)
        if layer.bias is not None:
            linear.bias = nn.Parameter(layer.bias, requires_grad=False)
        _put(network, name, linear.eval())


def _linear(network: nn.Module, name: str) -> nn.Linear:
    try:
        found = network.get_submodule(name)
    except AttributeError:
        found = None
    if not isinstance(found, nn.Linear):
        raise WeightsError(f"the files keep {name} in int8, but the network has no such layer; fetch the model again")
    return found


def _put(network: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, last = name.rpartition(".")
    setattr(network.get_submodule(owner), last, module)
