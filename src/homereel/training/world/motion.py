"""How things move: the path of object and camera over a clip, in seconds, from elementary mechanics.

Lengths are in units of half the frame's height, x to the right, y downwards. The centre of the frame is (0, 0).
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import torch
from torch import Tensor

from homereel.training.world.scene import ROLLING_SHAPES, SIZES, Scene

GROUND = 0.62
"""Where an object touches the floor."""
GRAVITY = 4.0
"""Units a second squared; gentle, so that two bounces fill a two-second clip."""


@dataclass(frozen=True)
class Path:
    """Tensors of length T: centre (x, y), radius, angle in radians, camera offset and zoom."""

    x: Tensor
    y: Tensor
    radius: Tensor
    angle: Tensor
    pan: Tensor
    zoom: Tensor


def path_of(scene: Scene, *, num_frames: int, fps: float, aspect: float) -> Path:
    """The path of a scene's object and camera, sampled at the times of the frames.

    What spins turns clockwise, always: where no word tells which way, a model that has seen both blends them.
    """
    rng = random.Random(scene.variation)
    seconds = torch.arange(num_frames, dtype=torch.float32) / fps
    share = torch.linspace(0, 1, num_frames)
    size = SIZES[scene.size] * rng.uniform(0.96, 1.04)
    radius = torch.full_like(share, size)
    x = torch.full_like(share, rng.uniform(-0.12, 0.12) * max(aspect, 1.0))
    angle = torch.zeros_like(share)
    match scene.motion:
        case "bounce":
            drop = (GROUND - size) + rng.uniform(0.45, 0.55) - 0.4 * size
            height = _bouncing(seconds, start=drop, restitution=rng.uniform(0.84, 0.9))
        case "fall":
            drop = (GROUND - size) + rng.uniform(0.9, 1.0)
            height = _bouncing(seconds, start=drop, restitution=rng.uniform(0.25, 0.35))
        case "rise":
            height = _smooth(share) * (GROUND - size + rng.uniform(0.42, 0.52))
        case "spin":
            height = torch.full_like(share, 0.12 * size)
            angle = math.pi * rng.uniform(0.9, 1.1) * share
        case _:
            height = torch.zeros_like(share)
    if scene.motion in ("left", "right"):
        sign = -1.0 if scene.motion == "left" else 1.0
        reach = min(rng.uniform(0.52, 0.6) * max(aspect, 1.0), 0.9)
        x = sign * reach * (2 * share - 1)
        if scene.shape in ROLLING_SHAPES:
            angle = (x - x[0]) / size
    elif scene.motion == "grow":
        radius = size * (0.5 + 0.75 * share)
    elif scene.motion == "shrink":
        radius = size * (1.25 - 0.75 * share)
    pan, zoom = _camera(scene.camera, share, rng)
    return Path(x=x, y=GROUND - radius - height, radius=radius, angle=angle, pan=pan, zoom=zoom)


def _bouncing(seconds: Tensor, *, start: float, restitution: float) -> Tensor:
    """Height above the floor of a body dropped from `start` that keeps `restitution` of its speed at each contact."""
    height = torch.clamp(start - 0.5 * GRAVITY * seconds**2, min=0)
    contact = math.sqrt(2 * start / GRAVITY)
    speed = GRAVITY * contact * restitution
    while contact < float(seconds[-1]) and speed > 0.05:
        since = seconds - contact
        arc = speed * since - 0.5 * GRAVITY * since**2
        duration = 2 * speed / GRAVITY
        height = torch.where((since >= 0) & (since < duration), arc, height)
        contact, speed = contact + duration, speed * restitution
    return height


def _camera(camera: str, share: Tensor, rng: random.Random) -> tuple[Tensor, Tensor]:
    """Offset and zoom of the camera; a pan is centred on the object's usual place."""
    eased = _smooth(share)
    reach = rng.uniform(0.45, 0.6)
    pan, zoom = torch.zeros_like(share), torch.ones_like(share)
    if camera == "pan left":
        pan = reach * (0.5 - eased)
    elif camera == "pan right":
        pan = reach * (eased - 0.5)
    elif camera in ("zoom in", "zoom out"):
        towards = eased if camera == "zoom in" else 1 - eased
        zoom = torch.exp(math.log(0.78) + towards * math.log(1.4 / 0.78))
    return pan, zoom


def _smooth(share: Tensor) -> Tensor:
    return share * share * (3 - 2 * share)
