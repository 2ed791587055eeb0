"""Says what a clip shows, from its pixels alone: colour, shape, motion, camera, floor and light.

The way of a reading: background (light, floor, camera) → mask of what differs from it → outline (shape, track) →
surface (colour, half-tone) → motion in the world's coordinates. A trait that is not clearly one of the world's is None.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

from homereel.training.exam.background import Background, fit_background
from homereel.training.exam.clip import Clip, Frames, prepare_clip
from homereel.training.exam.motion_reader import name_camera, name_motion, shown_well, world_track
from homereel.training.exam.subject import subject_mask
from homereel.training.exam.surface import name_color, read_half_turn, sample_surface
from homereel.training.exam.track import Track, follow
from homereel.training.world.scene import ROLLING_SHAPES


@dataclass(frozen=True)
class Reading:
    """What a clip shows; None for a trait that cannot be told or is none of the world's."""

    color: str | None = None
    shape: str | None = None
    motion: str | None = None
    floor: str | None = None
    camera: str | None = None
    light: str | None = None


TRAITS: tuple[str, ...] = tuple(field.name for field in fields(Reading))


@torch.no_grad()
def read_clip(frames: Frames, *, fps: float) -> Reading:
    """Read a clip: frames THWC uint8 (numpy) or TCHW (torch, uint8 or float in 0..1)."""
    clip = prepare_clip(frames, fps=fps)
    background = fit_background(clip)
    if background.light is None:
        return Reading()
    mask_THW = subject_mask(background)
    track = follow(mask_THW, clip.u_W, clip.v_H, pixel=clip.pixel)
    color, motion = _read_subject(clip, background, track) if track else (None, None)
    return Reading(
        color=color,
        shape=track.shape if track else None,
        motion=motion,
        floor=background.floor,
        camera=name_camera(background),
        light=background.light,
    )


def _read_subject(clip: Clip, background: Background, track: Track) -> tuple[str | None, str | None]:
    well = shown_well(track.pose)
    surface = sample_surface(background.day_TCHW, track.pose, track.template, aspect=clip.aspect)
    color, _ = name_color(surface, frames=well)
    half_turn = read_half_turn(surface, frames=well) if track.template.shape in ROLLING_SHAPES else None
    world = world_track(track.pose, background, shape=track.template.shape, fps=clip.fps, half_turn=half_turn)
    return color, name_motion(world) if world else None
