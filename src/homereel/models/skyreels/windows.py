"""How a long film is cut into windows that a SkyReels-V2 can make: each begins with the end of the one before.

All counts are of latent frames. No torch.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """`num_frames` latent frames, of which the first `num_carried` are the last ones of what is done."""

    num_carried: int
    num_frames: int


def split_windows(num_frames: int, *, longest: int, overlap: int) -> tuple[Window, ...]:
    """Windows as long as they may be, the last one as short as it needs to be; their new frames add up."""
    assert 0 < overlap < longest, "a window must add frames to what it carries"
    windows = [Window(num_carried=0, num_frames=min(num_frames, longest))]
    done = windows[0].num_frames
    while done < num_frames:
        new = min(num_frames - done, longest - overlap)
        windows.append(Window(num_carried=overlap, num_frames=overlap + new))
        done += new
    return tuple(windows)
