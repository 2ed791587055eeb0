"""Where the kernels of fused norms run."""

from __future__ import annotations

import functools
import importlib.util

import torch

MAX_CHANNELS = 16384  # a token's channels stay in the registers of one program


def support(*, device: torch.device, num_channels: int = 0) -> str | None:
    """None if the kernels run on `device` for tokens of so many channels, else the reason, in one line.

    Without them the same is computed in plain PyTorch, in several passes over memory.
    """
    if num_channels > MAX_CHANNELS:
        return f"a token of {num_channels} channels is too long for fused norms; at most {MAX_CHANNELS} are possible"
    return _device_support(device)


@functools.cache
def _device_support(device: torch.device) -> str | None:
    if device.type != "cuda" or torch.version.hip is not None:
        return f"fused norms need an NVIDIA GPU, and this is a {device.type} device; PyTorch's own norms run here"
    if importlib.util.find_spec("triton") is None:
        return "fused norms need Triton: pip install triton"
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        return f"fused norms need compute capability 8.0, this GPU has {major}.{minor}"
    return None
