"""How much a file may claim or cost before it is refused: the one place that holds these figures."""

from __future__ import annotations

from dataclasses import dataclass

MAX_IMAGE_PIXELS = 2**26
"""The largest still picture that is decoded: 8192 x 8192 and anything of the same area."""

MAX_RECORD_BYTES = 2**20
"""The largest record that is written or read back, as JSON text."""

MAX_RECORD_DEPTH = 24
"""How deep the objects of a record may nest."""


@dataclass(frozen=True)
class Limits:
    """Bounds for reading one file. They are checked on what it claims, and again on what comes out of the
    decoder.
    """

    max_pixels: int = 2**25  # a frame: 8K footage passes
    max_frames: int = 20_000
    max_decoded_bytes: int = 4 * 2**30
    max_seconds: float = 3600.0
    max_file_bytes: int = 64 * 2**30


PROBE_LIMITS = Limits(max_frames=2_000_000, max_seconds=24 * 3600.0)
"""Looking at a file decodes next to nothing: a whole feature film may pass, nonsense may not."""
