"""The clips of a film before they are joined: what their files claim, and whether they go together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from homereel import media
from homereel.core.errors import InvalidRequest


@dataclass(frozen=True)
class Piece:
    """A clip of a film, without so many frames at its start, and what a look into its file has told."""

    path: Path
    skip_frames: int
    look: media.Probe
    name: str  # what messages call it

    @property
    def num_frames(self) -> int:
        """How many of its frames are in the film."""
        return self.look.num_frames - self.skip_frames


def look_at(pieces: Sequence[tuple[Path, int]], *, names: Sequence[str] | None = None) -> list[Piece]:
    """What the files say of themselves; nothing is decoded. Raises InvalidRequest if they make no film together."""
    if not pieces:
        raise InvalidRequest("a film needs a clip; give one")
    called = names or [path.name for path, _ in pieces]
    looked = [Piece(path, skip, media.probe(path), name) for (path, skip), name in zip(pieces, called, strict=True)]
    first = looked[0]
    for piece in looked:
        if piece.look.fps is None:
            raise InvalidRequest(f"{piece.name} is a single picture; a film is made of clips")
        if _kind(piece) != _kind(first):
            raise InvalidRequest(
                f"{piece.name} is {_kind(piece)}, and {first.name} is {_kind(first)}; the clips of a film "
                "have one size and pace: make one of them again with the other's, or leave it out"
            )
        if not 0 <= piece.skip_frames < piece.look.num_frames:
            raise InvalidRequest(
                f"{piece.name} has {piece.look.num_frames} frames, of which {piece.skip_frames} cannot be left out"
            )
    return looked


def _kind(piece: Piece) -> str:
    return f"{piece.look.width}x{piece.look.height} at {piece.look.fps:g} fps"
