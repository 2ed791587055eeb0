"""Count what comes out of a decoder, and stop it when it is more than allowed: claims in a header bind
nobody.
"""

from __future__ import annotations

from pathlib import Path

from homereel.core.errors import UnreadableMedia
from homereel.media.limits import Limits
from homereel.media.local_file import shown


class DecodeBudget:
    """What decoding one file has taken so far. Everything is booked before it is held; over a limit,
    UnreadableMedia is raised.
    """

    def __init__(self, limits: Limits, *, path: str | Path) -> None:
        self.limits = limits
        self.path = path
        self.num_frames = 0
        self.kept_bytes = 0

    def decode(self, *, width: int, height: int) -> None:
        """Book one frame of this size that is decoded, whether it is kept or not."""
        limits = self.limits
        if width * height > limits.max_pixels:
            raise UnreadableMedia(
                f"{shown(self.path)} has frames of {width}x{height} pixels (limit {limits.max_pixels:,} "
                "pixels); scale it down"
            )
        self.num_frames += 1
        if self.num_frames > limits.max_frames:
            raise UnreadableMedia(
                f"{shown(self.path)} has more than {limits.max_frames:,} frames; cut it into shorter clips"
            )

    def keep(self, num_bytes: int) -> None:
        """Book memory for what is kept."""
        self.kept_bytes += num_bytes
        if self.kept_bytes > self.limits.max_decoded_bytes:
            raise UnreadableMedia(
                f"{shown(self.path)} needs more than {self.limits.max_decoded_bytes:,} bytes of memory decoded; "
                "cut it into shorter clips or scale it down"
            )
