"""From clips to one film: pieces one after the other with cuts, frame for frame, written while they are read, with the
sound of those that have one; and the last frame of a clip as a picture, for models that go on from one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from homereel import media
from homereel.core.errors import UnreadableMedia
from homereel.media.clip_source import open_clip
from homereel.media.limits import Limits
from homereel.media.retime import take_shots
from homereel.workflows.film_pieces import Piece, look_at
from homereel.workflows.film_record import film_record
from homereel.workflows.film_sound import film_sound

Frame = NDArray[np.uint8]
FILM_QUALITY = 90
"""Frames that were encoded once are encoded again; so fine, the second time shows nowhere."""


def join_clips(
    pieces: Sequence[tuple[Path, int]],
    target: str | Path,
    *,
    title: str = "",
    names: Sequence[str] | None = None,
    quality: int | None = None,
    on_progress: Callable[[float], object] | None = None,
) -> Path:
    """Write one film of clips, of each without so many frames at its start. They must be of one size and pace.

    If one of them has sound the film has, and the others are silent in it; all is heard at the finest rate and with the
    most channels of any (mp4 alone carries sound). Neither frames nor sound are held: memory does not grow with the
    film. Its record tells the fingerprints and recipes of the clips. `names` are what messages call them, by default
    their files; `on_progress` is told the share that is done, and may raise Stopped.
    Raises InvalidRequest for clips that do not go together, UnreadableMedia, UnwritableTarget.
    """
    looked = look_at(pieces, names=names)
    fps = looked[0].look.fps or 16.0
    sound = film_sound(looked, fps=fps) if media.carries_sound(target) else None
    count = sum(piece.num_frames for piece in looked)
    first = looked[0].look
    with closing(_joined(looked, fps=fps, count=count, on_progress=on_progress)) as frames:
        return media.write_clip(
            media.FrameStream(frames, shape=(count, first.height, first.width, 3)),
            target,
            fps=fps,
            record=film_record(looked, title=title, fps=fps),
            quality=FILM_QUALITY if quality is None else quality,
            sound=sound,
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


def clip_frames(path: Path, *, fps: float | None = None) -> Iterator[Frame]:
    """All frames (H, W, 3), one after the other, evenly timed if a pace is given. Raises UnreadableMedia."""
    with open_clip(path, limits=Limits()) as source:
        yield from take_shots(source.shots, fps=fps, num_frames=None)


def _joined(
    pieces: Sequence[Piece], *, fps: float, count: int, on_progress: Callable[[float], object] | None
) -> Generator[Frame]:
    """Every piece gives as many frames as its file claims, or the sound behind it would come at the wrong time."""
    given = 0
    for piece in pieces:
        index = 0
        for index, frame in enumerate(clip_frames(piece.path, fps=fps), start=1):
            if piece.skip_frames < index <= piece.look.num_frames:
                yield frame
                given += 1
                if on_progress is not None:
                    on_progress(given / count)
        if index < piece.look.num_frames:
            raise UnreadableMedia(
                f"{piece.name} claims {piece.look.num_frames} frames and gives {index}; is it cut short?"
            )
