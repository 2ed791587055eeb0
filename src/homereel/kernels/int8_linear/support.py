"""Where the kernels of 8-bit linear layers run, and which scheme is the fastest there."""

from __future__ import annotations

import functools
import importlib.util

import torch

from homereel.kernels.int8_linear.schemes import MAX_INPUTS, Scheme
from homereel.kernels.int8_linear.tiles import Capability

_NEEDED: dict[Scheme, Capability] = {"int8": (8, 0), "int8_block": (8, 0), "fp8": (8, 9)}


def support(scheme: Scheme, *, device: torch.device, num_inputs: int = 0) -> str | None:
    """None if a kernel of `scheme` runs on `device` for layers of so many inputs, else the reason, in one line.

    Without a kernel the layers still compute the same, in plain PyTorch, slower than they would in bf16.
    """
    if num_inputs > MAX_INPUTS and scheme != "fp8":
        return (
            f"{num_inputs} inputs may overflow an int32 sum; at most {MAX_INPUTS} are possible in {scheme}, or use fp8"
        )
    return _device_support(scheme, device)


def capability_support(scheme: Scheme, *, capability: Capability) -> str | None:
    """The same for an NVIDIA GPU of which only the compute capability is known."""
    needed = _NEEDED[scheme]
    if capability >= needed:
        return None
    least, other = ".".join(map(str, needed)), "; int8 needs 8.0" if scheme == "fp8" else ""
    return f"{scheme} kernels need compute capability {least}, this GPU has {'.'.join(map(str, capability))}{other}"


def preferred_scheme(capability: Capability) -> Scheme | None:
    """What to quantise to on such a GPU, or None if nothing is faster there than 16 bits.

    int8 is the closer of the two; on 10.x only fp8 has fast matrix instructions.
    """
    if capability < _NEEDED["int8"]:
        return None
    return "fp8" if capability[0] == 10 else "int8"


@functools.cache
def _device_support(scheme: Scheme, device: torch.device) -> str | None:
    if device.type != "cuda" or torch.version.hip is not None:
        return f"8-bit kernels need an NVIDIA GPU; on this {device.type} device 16 or 32 bits are faster"
    if importlib.util.find_spec("triton") is None:
        return "8-bit kernels need Triton: pip install triton"
    return capability_support(scheme, capability=torch.cuda.get_device_capability(device))
