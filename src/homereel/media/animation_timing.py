"""Count the pictures of a GIF or WebP and their delays from the file's structure, before anything is
decoded.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from homereel.core.errors import UnreadableMedia
from homereel.media.limits import Limits
from homereel.media.local_file import shown
from homereel.media.sniff import Kind

_USUAL_DELAY_MS = 100
_SHORTEST_DELAY_MS = 10
_ROUNDING_MS = 5
_USUAL_FPS = (8, 10, 12, 15, 16, 24, 25, 30, 48, 50, 60)


@dataclass(frozen=True)
class Timing:
    """An animation as an evenly timed clip: picture i is shown for repeats[i] frames."""

    repeats: tuple[int, ...]
    fps: float | None  # None for a single picture

    @property
    def num_frames(self) -> int:
        return sum(self.repeats)


def read_timing(file: BinaryIO, *, kind: Kind, path: str | Path, limits: Limits, fps: float | None = None) -> Timing:
    """The timing of an open GIF or WebP, `fps` being what its record says.

    Raises UnreadableMedia for more frames than allowed.
    """
    delays: list[int] = []
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for delay in _gif_delays(data) if kind == "gif" else _webp_delays(data):
            delays.append(delay if delay >= _SHORTEST_DELAY_MS else _USUAL_DELAY_MS)
            if len(delays) > limits.max_frames:
                break
    timing = even_timing(delays, fps=fps)
    if timing.num_frames > limits.max_frames:
        raise UnreadableMedia(f"{shown(path)} has more than {limits.max_frames:,} frames; cut it into shorter clips")
    return timing


def even_timing(delays_ms: Sequence[int], *, fps: float | None = None) -> Timing:
    """Animations store equal neighbours once, with a longer delay: how often to repeat each so that time
    runs evenly.

    `fps` is believed if all delays fit it. Otherwise the tick is the usual delay and not the shortest, since
    16 frames a second alternate between 60 and 70 ms in a GIF.
    """
    if len(delays_ms) < 2:
        return Timing(repeats=(1,) * len(delays_ms), fps=None)
    if fps and all(_fits(delay, tick=1000 / fps) for delay in delays_ms):
        return Timing(repeats=tuple(round(delay * fps / 1000) for delay in delays_ms), fps=fps)
    shortest = min(delays_ms)
    usual = [delay for delay in delays_ms if delay <= 1.5 * shortest]
    tick = sum(usual) / len(usual)
    repeats = tuple(max(1, round(delay / tick)) for delay in delays_ms)
    return Timing(repeats=repeats, fps=_likely_fps(sum(repeats), total_ms=sum(delays_ms)))


def _fits(delay: int, *, tick: float) -> bool:
    """Whether a delay is one tick or several, as far as times in steps of 10 ms can tell."""
    count = round(delay / tick)
    return count >= 1 and abs(delay - count * tick) <= 2 * _ROUNDING_MS


def _likely_fps(num_frames: int, *, total_ms: int) -> float:
    """The usual or whole rate that fits, as these formats round times to 10 ms; else the quotient."""
    fps = 1000 * num_frames / total_ms
    candidates = [*sorted(_USUAL_FPS, key=lambda usual: abs(usual - fps)), max(1, round(fps))]
    fitting = (rate for rate in candidates if abs(total_ms - 1000 * num_frames / rate) <= _ROUNDING_MS)
    return float(next(fitting, fps))


def _gif_delays(data: mmap.mmap) -> Iterator[int]:
    """Milliseconds of each picture; ends quietly where the file breaks off."""
    position = 13 + _table_bytes(data[10:11])
    delay = 0
    while position < len(data):
        mark = data[position]
        if mark == 0x21:  # an extension; the graphic control one holds the delay
            if data[position + 1 : position + 2] == b"\xf9":
                delay = 10 * int.from_bytes(data[position + 4 : position + 6], "little")
            position = _skip_blocks(data, position + 2)
        elif mark == 0x2C:
            position += 10 + _table_bytes(data[position + 9 : position + 10])
            position = _skip_blocks(data, position + 1)
            yield delay
            delay = 0
        else:
            return


def _table_bytes(flags: bytes) -> int:
    """The size of the colour table that a byte of flags announces."""
    return 3 * 2 ** ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def _skip_blocks(data: mmap.mmap, position: int) -> int:
    """The offset behind a chain of length-prefixed blocks."""
    while position < len(data) and data[position]:
        position += data[position] + 1
    return position + 1


def _webp_delays(data: mmap.mmap) -> Iterator[int]:
    """Milliseconds of each picture; a still one counts as a single picture."""
    position = 12
    while position + 8 <= len(data):
        name, size = (
            data[position : position + 4],
            int.from_bytes(data[position + 4 : position + 8], "little"),
        )
        if name == b"ANMF":
            yield int.from_bytes(data[position + 20 : position + 23], "little")
        elif name in (b"VP8 ", b"VP8L"):
            yield 0
        position += 8 + size + size % 2
