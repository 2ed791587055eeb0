"""A clip made ready for reading: float frames at a small working size, with the world's coordinates of every pixel.

Shape letters: T frames, C channels, H height, W width (of the working size).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from homereel.core.errors import InvalidRequest

WORKING_HEIGHT = 48
"""Frames are averaged down to about this height: what is asked is coarse, and averaging removes noise."""
MIN_FRAMES = 8

Frames = NDArray[np.uint8] | Tensor


@dataclass(frozen=True)
class Clip:
    """Frames in 0..1 and the coordinates of their pixels: u to the right and v downwards, in half frame heights."""

    frames_TCHW: Tensor
    u_W: Tensor
    v_H: Tensor
    pixel: float
    fps: float

    @property
    def num_frames(self) -> int:
        return self.frames_TCHW.shape[0]

    @property
    def aspect(self) -> float:
        return self.frames_TCHW.shape[-1] / self.frames_TCHW.shape[-2]


def prepare_clip(frames: Frames, *, fps: float) -> Clip:
    """Take THWC uint8 (numpy) or TCHW (torch, uint8 or float in 0..1) frames to the working size."""
    full = _as_float(frames)
    height, width = full.shape[-2:]
    stride = max(1, round(height / WORKING_HEIGHT))
    u = ((torch.arange(width) + 0.5) / width * 2 - 1) * (width / height)
    v = (torch.arange(height) + 0.5) / height * 2 - 1
    small = F.avg_pool2d(full, stride) if stride > 1 else full
    rows, columns = small.shape[-2:]
    return Clip(
        frames_TCHW=small,
        u_W=u[: columns * stride].view(columns, stride).mean(1),
        v_H=v[: rows * stride].view(rows, stride).mean(1),
        pixel=2.0 * stride / height,
        fps=fps,
    )


def _as_float(frames: Frames) -> Tensor:
    if isinstance(frames, Tensor):
        tensor = frames.detach().cpu()
    else:
        if frames.ndim != 4 or frames.shape[-1] != 3:
            raise InvalidRequest(f"frames are {frames.shape}; a clip is read from (T, H, W, 3)")
        tensor = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    if tensor.ndim != 4 or tensor.shape[1] != 3 or tensor.shape[0] < MIN_FRAMES:
        shape = tuple(tensor.shape)
        raise InvalidRequest(f"frames are {shape}; a clip is read from (T, 3, H, W) with T of {MIN_FRAMES} or more")
    if tensor.dtype == torch.uint8:
        return tensor.float() / 255
    return tensor.float().clamp(0, 1)
