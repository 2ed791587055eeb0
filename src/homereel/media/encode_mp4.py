"""Write H.264 and AAC in mp4 while frames arrive: plays everywhere, starts at once, carries its tags, same
frames same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homereel.media.encode_aac import AacTrack, aac_rate
from homereel.media.record_text import LateTags, Tags
from homereel.media.sound_source import Sounding
from homereel.media.yuv import BT709, LIMITED_RANGE, to_yuv

_CONTAINER_OPTIONS = {"movflags": "use_metadata_tags+faststart", "fflags": "+bitexact"}


def encode_mp4(
    frames: Iterable[NDArray[np.uint8]],
    *,
    path: Path,
    fps: float,
    tags: Tags | LateTags | None,
    quality: int,
    sound: Sounding | None = None,
) -> None:
    """Fill the existing file `path`. H.264 with 4:2:0 colour needs even sides: an odd last row or column
    is doubled. The sound starts with the first frame and ends with the last. Tags that come late are waited for with
    what is encoded in memory, a hundredth of the frames.

    One thread, and no date or library name in the container: the bytes depend on the frames, the sound and
    the tags alone.
    """
    import av

    rate = Fraction(fps).limit_denominator(1001)
    # The `file:` prefix makes every name literal; faststart opens it a second time by this name.
    container: Any = av.open(
        f"file:{path.absolute()}",
        mode="w",
        format="mp4",
        options={**_CONTAINER_OPTIONS, **({} if sound is None else _options_with_sound(sound))},
    )
    try:
        if callable(tags):
            held: list[Any] = []
            _encode_all(frames, container, put=held.append, rate=rate, quality=quality, sound=sound)
            container.metadata.update(tags().as_dict())
            for packets in held:
                container.mux(packets)
        else:
            container.metadata.update(tags.as_dict() if tags else {})
            _encode_all(frames, container, put=container.mux, rate=rate, quality=quality, sound=sound)
        container.close()
    except BaseException:
        _throw_away(container, path)  # what went wrong first is what counts
        raise


def crf_of(quality: int) -> int:
    """x264's constant rate factor: 51 (worst) at quality 0, 15 at 80, 1 at 100. Not 0: few players know
    lossless.
    """
    return round(51 - 0.45 * quality) if quality <= 80 else round(15 - 0.7 * (quality - 80))


def _throw_away(container: Any, path: Path) -> None:
    """On a full disk FFmpeg cannot end the file, and PyAV then keeps it open for good: let it at least hold no room."""
    with suppress(Exception):
        container.close()
    with suppress(OSError):
        os.truncate(path, 0)


def _encode_all(
    frames: Iterable[NDArray[np.uint8]],
    container: Any,
    *,
    put: Callable[[Any], object],
    rate: Fraction,
    quality: int,
    sound: Sounding | None,
) -> None:
    """Give the packets of all streams to `put`, in the order in which they belong into the file."""
    stream: Any = None
    track: AacTrack | None = None
    for index, frame_HWC in enumerate(frames):
        frame = to_yuv(_to_even(frame_HWC))
        if stream is None:
            stream = _add_stream(container, frame, rate=rate, quality=quality)
            track = None if sound is None else AacTrack(container, sound, put=put, fps=rate, quality=quality)
        frame.pts, frame.time_base = index, 1 / rate
        put(stream.encode(frame))
        if track is not None:
            track.fill(index + 1)
    if track is not None:
        track.finish()
    if stream is not None:
        put(stream.encode(None))


def _options_with_sound(sound: Sounding) -> dict[str, str]:
    """The movie's clock ticks in samples, so that the sound ends exactly with the last frame and not on a
    millisecond; frames that the video encoder still holds are waited for, however slow the clip is.
    """
    return {"movie_timescale": str(aac_rate(sound.rate)), "max_interleave_delta": "0"}


def _add_stream(container: Any, frame: Any, *, rate: Fraction, quality: int) -> Any:
    options = {"crf": str(crf_of(quality)), "preset": "medium", "profile": "high", **_same_everywhere()}
    stream = container.add_stream("libx264", rate=rate, options=options)
    stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
    stream.time_base = 1 / rate
    context = stream.codec_context
    context.thread_count = 1
    context.colorspace = context.color_primaries = context.color_trc = BT709
    context.color_range = LIMITED_RANGE
    return stream


def _same_everywhere() -> dict[str, str]:
    """On processors with AVX-512, x264's options without it: there its macroblock tree reads memory that it never
    wrote, and the file depends on what lay there. Without it the bytes are those of all processors with SSE4 or AVX.
    """
    told: Any = np.show_config(mode="dicts")
    found = {name for kind in ("baseline", "found") for name in told["SIMD Extensions"].get(kind, ())}
    has_it = any(name.startswith("AVX512") or name == "X86_V4" for name in found)  # NumPy before and from 2.4 on
    return {"x264-params": "asm=AVX2"} if has_it else {}


def _to_even(frame_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = frame_HWC.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return frame_HWC
    return np.pad(frame_HWC, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
