"""Decodes latents in tiles of time and space, in memory that neither a clip's length nor its size changes.

Neighbouring tiles overlap, and their seams are blended: for any decoder whose first latent frame becomes one frame and
each later one several, as those of Wan and HunyuanVideo-1.5. A tile does not see what lies outside of it, so this is
not exact.

Shape letters: B batch (always 1), C channels, T frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# Neighbours share this part of a tile.
OVERLAP_SHARE = 0.25


@dataclass(frozen=True)
class Tile:
    """The shape of a tile in latents, and how many frames and pixels a latent becomes."""

    frames: int
    rows: int
    columns: int
    frame_scale: int
    scale: int

    @classmethod
    def of(cls, tiles: tuple[int, int, int], *, frame_scale: int, scale: int) -> Tile:
        """Of a shape in frames and pixels, as plans have it."""
        frames, height, width = tiles
        return cls((frames - 1) // frame_scale + 1, max(1, height // scale), max(1, width // scale), frame_scale, scale)


def decode_in_tiles(decode: Callable[[Tensor], Tensor], latents_BCTHW: Tensor, *, tile: Tile) -> Iterator[Tensor]:
    """(1, C, t, H, W) in float32 on the host, piece after piece.

    `decode` makes video of the latents of one tile. Pieces of time begin one latent frame early, of which the picture
    is dropped: decoded without a past, it would be another.
    """
    num_latents, shared = latents_BCTHW.shape[2], max(1, round(tile.frames * OVERLAP_SHARE))
    # A piece gives at least one new latent frame besides those it shares and the one that is dropped.
    length = max(tile.frames, shared + 2)
    start, tail = 0, None
    while True:
        end = min(num_latents, start + length)
        video = _space(decode, latents_BCTHW[:, :, start:end], tile=tile)
        if start:
            video = video[:, :, 1:]
        if tail is not None:
            video = _joined(tail, video)
        if end == num_latents:
            yield video
            return
        kept = shared * tile.frame_scale
        yield video[:, :, :-kept]
        tail, start = video[:, :, -kept:].clone(), end - shared - 1
        del video


def _joined(before: Tensor, after: Tensor) -> Tensor:
    """The end of one piece fades into the beginning of the next."""
    count = before.shape[2]
    share = ((torch.arange(count) + 0.5) / count).view(-1, 1, 1)
    after[:, :, :count] = before * (1 - share) + after[:, :, :count] * share
    return after


def _space(decode: Callable[[Tensor], Tensor], latents_BCTHW: Tensor, *, tile: Tile) -> Tensor:
    """A piece of time from its tiles in space."""
    frames, rows, columns = latents_BCTHW.shape[2:]
    vertical = _spans(rows, tile.rows, scale=tile.scale)
    horizontal = _spans(columns, tile.columns, scale=tile.scale)
    whole: Tensor | None = None
    num_frames = (frames - 1) * tile.frame_scale + 1
    for row, row_share in vertical:
        for column, column_share in horizontal:
            part = latents_BCTHW[:, :, :, row : row + tile.rows, column : column + tile.columns]
            video = decode(part).float().cpu()
            if whole is None:
                size = (rows * tile.scale, columns * tile.scale)
                whole = torch.zeros((1, video.shape[1], num_frames, *size))
            top, left = row * tile.scale, column * tile.scale
            place = whole[:, :, :, top : top + video.shape[3], left : left + video.shape[4]]
            place.add_(video.mul_(row_share[:, None]).mul_(column_share))
    assert whole is not None, "a clip has a tile"
    return whole


def _spans(size: int, tile: int, *, scale: int) -> list[tuple[int, Tensor]]:
    """Where tiles begin along one side, and what share of each pixel is theirs; all shares of a pixel make one."""
    if size <= tile:
        return [(0, torch.ones(size * scale))]
    step = max(1, tile - max(1, round(tile * OVERLAP_SHARE)))
    count = -(-(size - tile) // step) + 1
    starts = [index * (size - tile) // (count - 1) for index in range(count)]
    ramps = torch.zeros(count, size * scale)
    for index, start in enumerate(starts):
        first, last = start * scale, (start + tile) * scale
        up = (starts[index - 1] + tile) * scale - first if index else 0
        down = last - starts[index + 1] * scale if index + 1 < count else 0
        at = torch.arange(last - first) + 0.5
        ramp = torch.ones(last - first)
        if up > 0:
            ramp = torch.minimum(ramp, at / up)
        if down > 0:
            ramp = torch.minimum(ramp, (last - first - at) / down)
        ramps[index, first:last] = ramp
    shares = ramps / ramps.sum(dim=0)
    return [(start, shares[index, start * scale : (start + tile) * scale]) for index, start in enumerate(starts)]
