"""What can be said of a SkyReels-V2 from its files alone. It is a Wan by its parts, and goes on in windows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from homereel.core.errors import InvalidRequest
from homereel.core.model import Grid, Shapes, Stage
from homereel.core.plan import Plan
from homereel.core.request import Request
from homereel.models.skyreels.windows import Window, split_windows
from homereel.models.wan.facts import WanFacts

# A window begins with this many frames of the one before, as the makers advise.
OVERLAP_FRAMES = 17
# Five minutes at 24 frames a second. There is no limit in the model; the decoded frames must lie in memory.
MAX_FRAMES = 7201
# What the makers advise for clips that begin with a given picture.
PICTURE_GUIDANCE = PICTURE_SHIFT = 5.0


@dataclass(frozen=True)
class SkyreelsFacts(WanFacts):
    """A SkyReels-V2 with diffusion forcing (Chen et al. 2025, arXiv 2504.13074) known by its files only.

    Its transformer is Wan's with a time for each latent frame, so frames that are known stand beside frames that
    are noise. See `ModelFacts` for what each part means.
    """

    told_pace: bool  # whether the transformer is told how many frames a second there are

    name = "skyreels-v2"

    @property
    def inputs(self) -> frozenset[str]:
        return frozenset({"text", "image"})

    @property
    def window_frames(self) -> int:
        """Frames in one window: the standard clip, which is what the model was trained on."""
        return self.defaults.num_frames

    @property
    def grid(self) -> Grid:
        return replace(super().grid, max_frames=MAX_FRAMES)

    def shapes(self, *, width: int, height: int, num_frames: int, dtype: str) -> Shapes:
        """Of the largest window: tokens and working memory do not grow with the clip.

        What grows are its latents in float32 (held once, and once more while a window is added) and its decoded
        frames, a byte a value.
        """
        window = super().shapes(width=width, height=height, num_frames=min(num_frames, self.window_frames), dtype=dtype)
        batch, channels, _, *size = window.latents
        clip_values = batch * channels * self._latent_frames(num_frames) * math.prod(size)
        further_frames = max(0, num_frames - self.window_frames)
        return replace(
            window,
            denoise_bytes=window.denoise_bytes + 2 * clip_values * 4,
            decode_bytes=window.decode_bytes + 2 * clip_values * 4 + further_frames * height * width * 3,
        )

    def windows(self, num_frames: int) -> tuple[Window, ...]:
        """The windows that make a clip of this many frames (not latent ones), in order."""
        return split_windows(
            self._latent_frames(num_frames),
            longest=self._latent_frames(self.window_frames),
            overlap=self._latent_frames(OVERLAP_FRAMES),
        )

    def stages(self, plan: Plan) -> tuple[Stage, ...]:
        """One a window, each with all the steps: noise is drawn for the carried frames too, as peers do."""
        shapes = self.shapes(width=plan.width, height=plan.height, num_frames=plan.num_frames, dtype=plan.dtype)
        batch, channels, _, *size = shapes.latents
        return tuple(
            Stage(noise=((batch, channels, window.num_frames, *size),), num_steps=plan.steps)
            for window in self.windows(plan.num_frames)
        )

    def remarks(self, request: Request) -> tuple[str, ...]:
        if (request.sampler or self.defaults.sampler) == "rcm":
            raise InvalidRequest(
                f"sampler: the fresh noise of rcm would cover the frames that {self.model} goes on from; use rcm-ode",
                field="sampler",
            )
        remarks = list(super().remarks(request))
        if request.image is not None and (request.guidance is None or request.shift is None):
            remarks.append(
                f"for clips that begin with a picture the makers of {self.model} advise "
                f"guidance {PICTURE_GUIDANCE:g} and shift {PICTURE_SHIFT:g}"
            )
        num_windows = len(self.windows(self._asked_frames(request)))
        if num_windows > 1:
            remarks.append(
                f"the clip is made in {num_windows} windows, each with all the steps and "
                f"each beginning with the last {OVERLAP_FRAMES} frames of the one before"
            )
        return tuple(remarks)

    def _asked_frames(self, request: Request) -> int:
        """The length asked for, on the grid; 1 if none is."""
        asked = request.num_frames or (request.seconds or 0) * (request.fps or self.defaults.fps)
        scale = self.config.frame_scale
        return min(MAX_FRAMES, max(0, math.floor((asked - 1) / scale + 0.5)) * scale + 1)

    def _latent_frames(self, num_frames: int) -> int:
        return max(0, num_frames - 1) // self.config.frame_scale + 1
