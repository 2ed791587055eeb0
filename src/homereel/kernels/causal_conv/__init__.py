"""A convolution over a clip that looks back in time: `CausalConv` holds one layer and the frames it has seen last.

On a processor in float32 a 3 × 3 × 3 kernel takes Winograd's way, else oneDNN's or cuDNN's own; `reference.py` is the
specification. For inference: there is no gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from homereel.kernels.causal_conv.direct import convolve
from homereel.kernels.causal_conv.reference import reference
from homereel.kernels.causal_conv.winograd import WinogradConv

__all__ = ["CausalConv", "empty_clip", "in_layout", "reference"]


class CausalConv:
    """A layer that is fed a clip piece by piece, and remembers what the next piece needs of this one.

    `weight` is (O, C, D, E, F); frames before the first one are zero.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight, self._bias = in_layout(weight), bias
        self._past = weight.shape[2] - 1
        self._memory: Tensor | None = None
        fewer = weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.shape[2:] == (3, 3, 3)
        self._winograd = WinogradConv(weight, bias) if fewer else None

    def __call__(self, x: Tensor, *, fill: Callable[[Tensor, Tensor], object] | None = None) -> Tensor:
        """(1, O, T, H, W) of a piece (1, C, T, H, W). What is convolved is the piece, or what `fill(x, room)` puts
        into the room.
        """
        past, num_frames = self._past, x.shape[2]
        *_, rows, columns = self._weight.shape
        padding = (rows // 2, columns // 2)
        if past == 0 and fill is None:
            return convolve(x, self._weight, self._bias, padding=(0, *padding))
        is_alone = past > 0 and num_frames == 1 and self._memory is None
        whole = empty_clip(x, (1, x.shape[1], past + num_frames, *x.shape[3:]))
        if past:
            whole[:, :, :past] = 0 if self._memory is None else self._memory
        if fill is None:
            whole[:, :, past:] = x
        else:
            fill(x, whole[:, :, past:])
        if past:
            self._memory = whole[:, :, num_frames:].clone()
        if is_alone:  # before it all is zero
            return convolve(whole[:, :, past], self._weight[:, :, past], self._bias, padding=padding).unsqueeze(2)
        if self._winograd is None or not self._winograd.takes(num_frames):
            return convolve(whole, self._weight, self._bias, padding=(0, *padding))
        out = empty_clip(x, (1, self._weight.shape[0], num_frames, *x.shape[3:]))
        self._winograd(_frames_first(whole), out=_frames_first(out))
        return out


def empty_clip(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Unfilled memory of the kind of `x`, in the order of dimensions that its device likes."""
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=_layout(x))


def in_layout(x: Tensor) -> Tensor:
    """A clip or a weight in that order."""
    return x.contiguous(memory_format=_layout(x))


def _layout(x: Tensor) -> torch.memory_format:
    return torch.channels_last_3d if x.device.type == "cpu" else torch.contiguous_format


def _frames_first(x_BCTHW: Tensor) -> Tensor:
    """(T, H, W, C)."""
    return x_BCTHW[0].permute(1, 2, 3, 0)
