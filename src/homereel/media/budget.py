"""Count what comes out of a decoder, and stop it when it is more than allowed: claims in a header bind
nobody.
"""

from __future__ import annotations

from pathlib import Path

from homereel.core.errors import UnreadableMedia
from homereel.media.limits import Limits
from homereel.media.local_file import shown


class DecodeBudget:
    """What decoding one file has taken so far."""

    def __init__(self, limits: Limits, *, path: str | Path) -> None:
        self.limits = limits
        self.path = path
        self.num_frames = 0
        self.decoded_bytes = 0

    def spend(self, *, width: int, height: int, num_frames: int = 1) -> None:
        """Book frames of this size before they are turned into arrays. Raises UnreadableMedia over a
        limit.
        """
        limits = self.limits
        if width * height > limits.max_pixels:
            raise UnreadableMedia(
                f"{shown(self.path)} has frames of {width}x{height} pixels (limit {limits.max_pixels:,} "
                "pixels); scale it down"
            )
        self.num_frames += num_frames
        self.decoded_bytes += num_frames * width * height * 3
        if self.num_frames > limits.max_frames:
            raise UnreadableMedia(
                f"{shown(self.path)} has more than {limits.max_frames:,} frames; cut it into shorter clips"
            )
        if self.decoded_bytes > limits.max_decoded_bytes:
            raise UnreadableMedia(
                f"{shown(self.path)} needs more than {limits.max_decoded_bytes:,} bytes of memory decoded; "
                "cut it into shorter clips or scale it down"
            )
