"""From clips to one film: pieces one after the other with cuts, frame for frame, written while they are read; and the
last frame of a clip as a picture, for models that go on from one.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homereel import media
from homereel.core.errors import InvalidRequest, UnreadableMedia
from homereel.media.clip_source import open_clip
from homereel.media.limits import Limits

Frame = NDArray[np.uint8]
FILM_SECONDS = 6 * 3_600


def join_clips(
    pieces: Sequence[tuple[Path, int]],
    target: str | Path,
    *,
    record: dict[str, Any] | None = None,
    quality: int | None = None,
) -> Path:
    """Write one film of clips, of each without so many frames at its start. They must be of one size and pace.

    Sound is not carried over: a film of clips with sound is silent. Raises InvalidRequest for clips that do not go
    together, UnreadableMedia, UnwritableTarget.
    """
    if not pieces:
        raise InvalidRequest("a film needs a clip; give one")
    looks = [(path, media.probe(path)) for path, _ in pieces]
    first_path, first = looks[0]
    for path, look in looks:
        if (look.width, look.height, look.fps) != (first.width, first.height, first.fps):
            raise InvalidRequest(
                f"{path.name} is {look.width}x{look.height} at {look.fps:g} fps, and {first_path.name} is "
                f"{first.width}x{first.height} at {first.fps:g}; make the shots of a film in one size and pace"
            )
    count = sum(look.num_frames - skip for (_, look), (_, skip) in zip(looks, pieces, strict=True))
    encoding: dict[str, Any] = {} if quality is None else {"quality": quality}
    with closing(_joined(pieces)) as frames:
        return media.write_clip(
            media.FrameStream(frames, shape=(count, first.height, first.width, 3)),
            target,
            fps=first.fps or 16.0,
            record=record,
            **encoding,
        )


def write_last_frame(clip: Path, target: Path) -> Path:
    """The last frame of a clip as PNG. Raises UnreadableMedia."""
    from homereel.media.encode_png import write_png

    write_png(last_frame(clip), path=target)
    return target


def last_frame(clip: Path) -> Frame:
    """The last frame (H, W, 3) of a clip, of which no more than one is held. Raises UnreadableMedia."""
    last: Frame | None = None
    for last in clip_frames(clip):  # noqa: B007
        pass
    if last is None:
        raise UnreadableMedia(f"{clip.name} has no frame that can be decoded; is it cut short?")
    return last


def _joined(pieces: Sequence[tuple[Path, int]]) -> Generator[Frame]:
    for path, skip in pieces:
        for index, frame in enumerate(clip_frames(path)):
            if index >= skip:
                yield frame


def clip_frames(path: Path) -> Iterator[Frame]:
    """All frames (H, W, 3), one after the other. Raises UnreadableMedia."""
    with open_clip(path, limits=Limits()) as source:
        for shot in source.shots:
            yield shot.picture()
