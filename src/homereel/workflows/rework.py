"""A finished file with more pixels or more frames a second, by plain filters: no model is asked, nothing is invented.

For detail that was not there, make the clip larger in its latents (`upscale`); this is for the rest: any footage, any
size, seconds instead of minutes.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from homereel import media
from homereel.core.errors import InvalidRequest
from homereel.media.interpolate import interpolated
from homereel.workflows.film import clip_frames

MAX_SCALE = 8.0
MAX_SIDE = 16_384


def rework(
    clip: Path, target: str | Path, *, scale: float = 1.0, frame_times: int = 1, quality: int | None = None
) -> Path:
    """Write the clip with `scale` times its sides (Lanczos) and `frame_times` as many frames a second (in between,
    along the motion; see `media.interpolate`).

    The record says how the clip itself was made. Sound is not carried over. Raises InvalidRequest, UnreadableMedia,
    UnwritableTarget.
    """
    look = media.probe(clip)
    width, height = _even(look.width * scale), _even(look.height * scale)
    if not 1 <= scale <= MAX_SCALE or max(width, height) > MAX_SIDE:
        raise InvalidRequest(
            f"scale is {scale:g}, which makes {width}x{height}; give 1 to {MAX_SCALE:g}, and sides up to {MAX_SIDE}",
            field="scale",
        )
    if scale == 1 and frame_times == 1:
        raise InvalidRequest("nothing is to be changed; give a scale above 1, or more frames a second", field="scale")
    frames = clip_frames(clip)
    count = look.num_frames
    if frame_times != 1:
        frames = interpolated(frames, times=frame_times)
        count = (count - 1) * frame_times + 1
    with closing(_enlarged(frames, width=width, height=height)) as made:
        return media.write_clip(
            media.FrameStream(made, shape=(count, height, width, 3)),
            target,
            fps=(look.fps or 16.0) * frame_times,
            record=look.record,
            quality=80 if quality is None else quality,
        )


def _even(side: float) -> int:
    """As video wants it."""
    return max(2, round(side / 2) * 2)


def _enlarged(frames: Iterator[NDArray[np.uint8]], *, width: int, height: int) -> Generator[NDArray[np.uint8]]:
    from PIL import Image

    for frame in frames:
        if frame.shape[:2] == (height, width):
            yield frame
        else:
            yield np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS))
