"""The procedural world: short captioned clips of one lit, shadowed object that moves as physics has it."""

from homereel.training.world.caption import describe, words
from homereel.training.world.draw import Drawing, draw
from homereel.training.world.scene import Scene, is_held_out, sample_scene

__all__ = ["Drawing", "Scene", "describe", "draw", "is_held_out", "sample_scene", "words"]
