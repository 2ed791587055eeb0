"""Between bytes and tensors in -1..1: a first frame made to fit, decoded video made into frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from homereel.core.errors import GenerationFailed


def fit_picture(image: NDArray[np.uint8], *, width: int, height: int) -> Tensor:
    """(H, W, 3) of any size to (3, height, width) in -1..1: scaled to cover, the overhang cut off evenly."""
    picture_CHW = torch.tensor(image).permute(2, 0, 1).float()
    _, rows, columns = picture_CHW.shape
    if (rows, columns) != (height, width):
        scale = max(height / rows, width / columns)
        size = (max(height, round(rows * scale)), max(width, round(columns * scale)))
        picture_CHW = functional.interpolate(picture_CHW[None], size=size, mode="bicubic", antialias=True)[0]
        top, left = (size[0] - height) // 2, (size[1] - width) // 2
        picture_CHW = picture_CHW[:, top : top + height, left : left + width].clamp(0, 255)
    return picture_CHW / 127.5 - 1


def fit_video(video: NDArray[np.uint8], *, width: int, height: int) -> Tensor:
    """(T, H, W, 3) of any size to (3, T, height, width) in -1..1, each frame as `fit_picture` has it."""
    return torch.stack([fit_picture(frame, width=width, height=height) for frame in video], dim=1)


def fit_mask(mask: NDArray[np.uint8], *, width: int, height: int) -> Tensor:
    """(T, H, W) bytes of any size to (T, height, width) in 0..1, placed as `fit_picture` places pictures."""
    grey = np.repeat(mask[..., None], 3, axis=-1)
    return (fit_video(grey, width=width, height=height)[0] + 1) / 2


def fit_within(image: NDArray[np.uint8], *, width: int, height: int) -> Tensor:
    """(H, W, 3) to (3, height, width) in -1..1: scaled to lie whole within, on white."""
    picture_CHW = torch.tensor(image).permute(2, 0, 1).float() / 127.5 - 1
    _, rows, columns = picture_CHW.shape
    scale = min(height / rows, width / columns)
    size = (max(1, int(rows * scale)), max(1, int(columns * scale)))
    scaled = functional.interpolate(picture_CHW[None], size=size, mode="bilinear", align_corners=False)[0]
    canvas = torch.ones(3, height, width)
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    canvas[:, top : top + size[0], left : left + size[1]] = scaled
    return canvas


def to_frames(video_CTHW: Tensor) -> NDArray[np.uint8]:
    """(3, T, H, W) in -1..1 to (T, H, W, 3) bytes; what is outside is cut off."""
    frames: NDArray[np.uint8] = _to_bytes(video_CTHW).cpu().numpy()
    return frames


def checked_frames(pieces: Iterable[Tensor]) -> Iterator[NDArray[np.uint8]]:
    """The frames (t, H, W, 3) of each decoded piece (1, 3, t, H, W) in -1..1.

    A GPU begins the next piece before one is handed over, so that it computes while frames are written. Raises
    GenerationFailed at the first piece with a number that is not finite.
    """
    waiting: list[_Piece] = []
    done = 0
    for video in pieces:
        waiting.append(_Piece(video[0]))
        if len(waiting) > (1 if video.is_cuda else 0):
            frames = waiting.pop(0).frames(first=done)
            done += len(frames)
            yield frames
    for piece in waiting:
        yield piece.frames(first=done)


class _Piece:
    """Frames on their way to ordinary memory."""

    def __init__(self, video_CTHW: Tensor) -> None:
        self._is_finite = torch.isfinite(video_CTHW).all()
        self._levels = _to_bytes(video_CTHW)
        self._arrived: torch.cuda.Event | None = None
        if video_CTHW.is_cuda:
            self._is_finite, self._levels = _fetch(self._is_finite), _fetch(self._levels)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def frames(self, *, first: int) -> NDArray[np.uint8]:
        """Waits for them. `first` is the number of the first."""
        if self._arrived is not None:
            self._arrived.synchronize()
        if not bool(self._is_finite):
            last = first + len(self._levels) - 1
            raise GenerationFailed(
                f"among frames {first} to {last} some were decoded to numbers that are not finite; try another seed"
            )
        frames: NDArray[np.uint8] = self._levels.numpy()
        return frames


def _to_bytes(video_CTHW: Tensor) -> Tensor:
    """(T, H, W, 3)."""
    levels = ((video_CTHW.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(1, 2, 3, 0).contiguous()


def _fetch(x: Tensor) -> Tensor:
    """A copy that the GPU sends when it comes to it."""
    room = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
    return room.copy_(x, non_blocking=True)
