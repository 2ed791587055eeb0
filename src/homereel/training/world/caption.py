"""Captions: many ways to say what a scene shows, from a small grammar. Deterministic for a given generator."""

from __future__ import annotations

import random

from homereel.training.world.scene import FLOOR_COLORS, OBJECT_COLORS, ROLLING_SHAPES, Scene, sample_scene

NOUNS = {
    "ball": ("ball", "ball", "ball", "sphere"),
    "box": ("box", "box", "cube", "square"),
    "triangle": ("triangle", "triangle", "pyramid"),
    "star": ("star",),
    "ring": ("ring", "ring", "donut", "hoop"),
}
VERBS = {
    "still": ("stands still", "stays still", "sits", "rests", "does not move", "is standing", "stands"),
    "bounce": ("bounces", "bounces", "is bouncing", "bounces up and down", "jumps", "is jumping", "hops"),
    "left": (
        "moves left",
        "moves to the left",
        "slides left",
        "goes left",
        "is moving left",
        "slides to the left",
    ),
    "right": (
        "moves right",
        "moves to the right",
        "slides right",
        "goes right",
        "is moving right",
        "slides to the right",
    ),
    "spin": ("spins", "rotates", "is spinning", "turns around", "is rotating", "spins around"),
    "grow": ("grows", "gets bigger", "becomes larger", "is growing", "grows bigger"),
    "shrink": ("shrinks", "gets smaller", "becomes smaller", "is shrinking"),
    "fall": ("falls", "drops", "falls down", "is falling", "drops down", "falls from above"),
    "rise": ("rises", "floats up", "flies up", "goes up", "is rising", "moves up", "floats upward"),
}
ROLLS = {
    "left": ("rolls left", "rolls to the left", "is rolling left"),
    "right": ("rolls right", "rolls to the right", "is rolling right"),
}
CAMERA = {
    "static": ("", "", "", "", "the camera is static", "the camera does not move", "static camera"),
    "pan left": (
        "the camera pans left",
        "the camera moves left",
        "camera pans to the left",
        "the camera pans to the left",
    ),
    "pan right": (
        "the camera pans right",
        "the camera moves right",
        "camera pans to the right",
        "the camera pans to the right",
    ),
    "zoom in": ("the camera zooms in", "camera zooms in", "the camera moves closer", "zoom in"),
    "zoom out": ("the camera zooms out", "camera zooms out", "the camera moves away", "zoom out"),
}
LIGHT = {
    "day": ("", "", "", "in daylight", "in bright light", "by day"),
    "night": ("at night", "at night", "in the dark", "in dim light"),
    "sunset": ("at sunset", "at sunset", "in warm light", "in golden light"),
}
SIZE = {"small": ("small", "little", "tiny"), "medium": ("",), "big": ("big", "large", "huge")}
OPENINGS = (
    "",
    "",
    "",
    "",
    "",
    "",
    "a video of ",
    "an animation of ",
    "a clip of ",
    "cinematic, ",
    "high quality, ",
)
ON_FLOOR = (
    *(" on a {} floor",) * 3,
    " above a {} floor",
    " over a {} ground",
    " on {} ground",
    " on the {} floor",
)
FLOOR_FIRST = ("on a {} floor ", "over a {} ground ", "on the {} floor, ")


def describe(scene: Scene, rng: random.Random) -> str:
    """A caption of the scene. Colour, shape and motion are always named; the floor nearly always, the rest often."""
    subject = _subject(scene, rng)
    verbs = ROLLS[scene.motion] if _may_roll(scene) and rng.random() < 0.4 else VERBS[scene.motion]
    verb = rng.choice(verbs)
    body = f"{subject} {verb}"
    draw = rng.random()
    if draw < 0.62:
        body += rng.choice(ON_FLOOR).format(scene.floor)
    elif draw < 0.74:
        body = rng.choice(FLOOR_FIRST).format(scene.floor) + body
    elif draw < 0.84:
        body = f"{subject} on a {scene.floor} floor {verb}"
    elif draw < 0.92:
        body += f", the floor is {scene.floor}"
    return _frame(rng.choice(OPENINGS) + body, scene, rng)


def words() -> list[str]:
    """Every word that a caption can hold, sorted."""
    rng = random.Random(3)
    found: set[str] = set(OBJECT_COLORS) | set(FLOOR_COLORS)
    for _ in range(20_000):
        text = describe(sample_scene(rng), rng)
        found.update(text.replace(",", " , ").replace(".", " . ").split())
    return sorted(found)


def _subject(scene: Scene, rng: random.Random) -> str:
    article = rng.choice(("a", "a", "a", "the", "one"))
    size = rng.choice(SIZE[scene.size])
    noun = rng.choice(NOUNS[scene.shape])
    plain = rng.random() >= 0.08
    parts = (article, size, scene.color, noun) if plain else (article, size, noun, f"that is {scene.color}")
    named = [part for part in parts if part]
    if article == "a" and named[1][0] in "aeiou":
        named[0] = "an"
    return " ".join(named)


def _may_roll(scene: Scene) -> bool:
    return scene.shape in ROLLING_SHAPES and scene.motion in ROLLS


def _frame(text: str, scene: Scene, rng: random.Random) -> str:
    """Add light, camera and a full stop around the sentence."""
    light, camera = rng.choice(LIGHT[scene.light]), rng.choice(CAMERA[scene.camera])
    if light:
        text += rng.choice((" ", ", ")) + light
    if camera:
        joins = ["{text}, {camera}", "{text}, {camera}", "{camera}, {text}"]
        if camera.startswith(("the ", "camera ")):
            joins += ["{text} while {camera}", "{text} as {camera}"]
        text = rng.choice(joins).format(text=text, camera=camera)
    return text + ("." if rng.random() < 0.3 else "")
