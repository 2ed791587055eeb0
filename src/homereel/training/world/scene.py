"""What a clip shows, as plain data: the traits that a caption may name and the exam may ask.

The vocabulary here is the whole of what the built-in model knows. Everything else (renderer, captions,
exam) reads these tables, so the world is widened or narrowed in this file alone.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass

Rgb = tuple[float, float, float]

OBJECT_COLORS: dict[str, Rgb] = {
    "red": (0.88, 0.10, 0.10),
    "orange": (0.98, 0.50, 0.05),
    "yellow": (0.97, 0.87, 0.10),
    "green": (0.10, 0.66, 0.20),
    "blue": (0.12, 0.28, 0.92),
    "purple": (0.56, 0.16, 0.80),
    "pink": (0.99, 0.50, 0.76),
    "white": (0.97, 0.97, 0.97),
    "black": (0.08, 0.08, 0.09),
}
FLOOR_COLORS: dict[str, Rgb] = {
    "red": (0.66, 0.26, 0.24),
    "yellow": (0.80, 0.72, 0.34),
    "green": (0.28, 0.56, 0.30),
    "blue": (0.26, 0.38, 0.66),
    "purple": (0.48, 0.32, 0.60),
    "pink": (0.82, 0.54, 0.64),
    "white": (0.86, 0.86, 0.84),
    "gray": (0.42, 0.42, 0.44),
}
SHAPES = ("ball", "box", "triangle", "star", "ring")
MOTIONS = ("still", "bounce", "left", "right", "spin", "grow", "shrink", "fall", "rise")
CAMERAS = ("static", "pan left", "pan right", "zoom in", "zoom out")
LIGHTS: dict[str, Rgb] = {"day": (1.0, 1.0, 1.0), "night": (0.60, 0.66, 0.88), "sunset": (1.06, 0.82, 0.60)}
SIZES: dict[str, float] = {"small": 0.31, "medium": 0.40, "big": 0.49}
"""Radius of the object in units of half the frame's height."""

ROLLING_SHAPES = ("ball", "ring")
HELD_OUT_SHARE = 0.1


@dataclass(frozen=True)
class Scene:
    """One clip's traits; `variation` seeds everything that no word names (exact place, speed, phase)."""

    color: str
    shape: str
    motion: str
    floor: str
    camera: str = "static"
    light: str = "day"
    size: str = "medium"
    variation: int = 0


def sample_scene(rng: random.Random, *, held_out: bool = False) -> Scene:
    """Draw a scene. Combinations of colour, shape, motion and floor that the exam asks are never drawn for training."""
    while True:
        color = rng.choice(list(OBJECT_COLORS))
        scene = Scene(
            color=color,
            shape=rng.choice(SHAPES),
            motion=rng.choice(MOTIONS),
            floor=rng.choice([name for name in FLOOR_COLORS if name != color]),
            camera=rng.choices(CAMERAS, (0.6, 0.1, 0.1, 0.1, 0.1))[0],
            light=rng.choices(list(LIGHTS), (0.7, 0.15, 0.15))[0],
            size=rng.choices(list(SIZES), (0.2, 0.6, 0.2))[0],
            variation=rng.getrandbits(31),
        )
        if is_held_out(scene) == held_out:
            return scene


def is_held_out(scene: Scene) -> bool:
    """Whether the scene's combination of traits is kept from training, so that the exam can ask what was never seen."""
    key = f"{scene.color} {scene.shape} {scene.motion} {scene.floor}".encode()
    return zlib.crc32(key) % 1000 < HELD_OUT_SHARE * 1000
