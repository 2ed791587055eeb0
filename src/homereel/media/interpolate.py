"""More frames a second: frames in between are drawn along the motion that FFmpeg's `minterpolate` finds, one after the
other, so that a clip of any length needs the memory of a few frames.

It estimates motion by blocks. Smooth motion comes out well; where something is uncovered or changes its shape quickly,
blocks show. No network is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homereel.core.errors import InvalidRequest

MAX_TIMES = 8
# Motion over two frames to either side is looked at before one is given out; the last would otherwise be dropped.
_LOOKS_AHEAD = 3
_MOTION = "mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1"


def interpolated(frames: Iterable[NDArray[np.uint8]], *, times: int) -> Iterator[NDArray[np.uint8]]:
    """`times` as many steps between the frames (H, W, 3) of a clip: n frames become (n - 1) * times + 1, and every
    given one is among them, as far as the colours of video (YUV 4:4:4) keep it. Raises InvalidRequest.
    """
    if not 2 <= times <= MAX_TIMES:
        raise InvalidRequest(f"{times} times as many frames are asked for; give 2 to {MAX_TIMES}", field="times")
    return _interpolated(frames, times=times)


def _interpolated(frames: Iterable[NDArray[np.uint8]], *, times: int) -> Iterator[NDArray[np.uint8]]:
    graph: _Graph | None = None
    given, last = 0, None
    made = 0
    for last in frames:
        graph = graph or _Graph(last.shape, times=times)
        graph.push(last, index=given)
        given += 1
        for frame in graph.pull():
            made += 1
            yield frame
    if graph is None or last is None:
        return
    for index in range(given, given + _LOOKS_AHEAD):
        graph.push(last, index=index)
    graph.end()
    for frame in graph.pull():
        if made < (given - 1) * times + 1:
            made += 1
            yield frame


class _Graph:
    """FFmpeg's filters from RGB to RGB."""

    def __init__(self, shape: tuple[int, ...], *, times: int) -> None:
        import av.filter

        height, width, _ = shape
        self._av: Any = av
        self._graph: Any = av.filter.Graph()
        steps = [
            self._graph.add_buffer(width=width, height=height, format="rgb24", time_base=Fraction(1, 1)),
            self._graph.add("format", "pix_fmts=yuv444p"),
            self._graph.add("minterpolate", f"fps={times}:{_MOTION}"),
            self._graph.add("format", "pix_fmts=rgb24"),
            self._graph.add("buffersink"),
        ]
        self._graph.link_nodes(*steps).configure()
        self._source, self._sink = steps[0], steps[-1]

    def push(self, frame: NDArray[np.uint8], *, index: int) -> None:
        picture = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture.pts, picture.time_base = index, Fraction(1, 1)
        self._source.push(picture)

    def end(self) -> None:
        self._source.push(None)

    def pull(self) -> Iterator[NDArray[np.uint8]]:
        while True:
            try:
                picture = self._sink.pull()
            except (self._av.BlockingIOError, self._av.EOFError):
                return
            yield picture.to_ndarray(format="rgb24")
