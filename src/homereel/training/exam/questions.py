"""Makes the exam's questions: scenes that training never shows, each with the prompt that asks for it.

Questions depend on the seed and the world's tables alone, and a longer exam begins with the questions of a shorter
one, so that scores of different models and versions compare. Python promises the same random numbers for a text seed.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, replace

from homereel.core.errors import InvalidRequest
from homereel.training.world import Scene, describe, sample_scene
from homereel.training.world.caption import CAMERA, LIGHT, NOUNS, VERBS
from homereel.training.world.scene import CAMERAS, FLOOR_COLORS, LIGHTS, MOTIONS, OBJECT_COLORS, ROLLING_SHAPES, SHAPES

EXAM_SEED = 0
ALWAYS_ASKED = ("color", "shape", "motion", "floor")
NUM_DRAWN = 60
"""So many scenes are drawn for every question; the one whose traits were asked least is taken."""
_BALANCED: dict[tuple[str, ...], int] = {
    ("color",): len(OBJECT_COLORS),
    ("shape",): len(SHAPES),
    ("motion",): len(MOTIONS),
    ("floor",): len(FLOOR_COLORS),
    ("shape", "motion"): len(SHAPES) * len(MOTIONS) // 4,
    ALWAYS_ASKED: 2 * len(OBJECT_COLORS),
}
"""What is asked equally often, and how much an uneven count of it weighs."""


@dataclass(frozen=True)
class Question:
    """A prompt, the scene that it means, the traits that it names, and the seed to make the clip with."""

    prompt: str
    scene: Scene
    asked: tuple[str, ...]
    seed: int


def make_questions(num: int, *, seed: int = EXAM_SEED) -> list[Question]:
    """The first `num` questions of a seed. Every prompt names colour, shape, motion and floor (never one colour twice);
    a third name the camera, a third the light. What is not named is a still camera, daylight and a middling size."""
    if num < 1:
        raise InvalidRequest(f"an exam of {num} clips asks nothing; ask for 1 or more, such as 256", field="clips")
    rng = random.Random(f"exam {seed}")
    counts: Counter[tuple[str, ...]] = Counter()
    questions: list[Question] = []
    num_cameras = num_lights = 0
    for index in range(num):
        scene = _least_asked(rng, counts)
        asked: tuple[str, ...] = ALWAYS_ASKED
        if index % 3 == 0:
            scene = replace(scene, camera=CAMERAS[num_cameras % len(CAMERAS)])
            asked, num_cameras = (*asked, "camera"), num_cameras + 1
        if index % 3 == index // 3 % 3:
            scene = replace(scene, light=tuple(LIGHTS)[num_lights % len(LIGHTS)])
            asked, num_lights = (*asked, "light"), num_lights + 1
        wording = random.Random(f"exam {seed} wording {index}")
        prompt = _canonical(scene, asked) if index % 2 == 0 else _paraphrase(scene, asked, wording)
        questions.append(Question(prompt=prompt, scene=scene, asked=asked, seed=seed + index))
    return questions


def is_decidable(scene: Scene) -> bool:
    """Whether a clip of the scene shows all its traits: the halves of a black ball or ring are too alike to turn."""
    return not (scene.color == "black" and scene.motion == "spin" and scene.shape in ROLLING_SHAPES)


def _least_asked(rng: random.Random, counts: Counter[tuple[str, ...]]) -> Scene:
    """Of some scenes kept from training, the one whose traits were asked least so far."""
    drawn = [sample_scene(rng, held_out=True) for _ in range(NUM_DRAWN)]
    decidable = [scene for scene in drawn if is_decidable(scene)]

    def keys(scene: Scene) -> list[tuple[str, ...]]:
        return [(*traits, *(getattr(scene, trait) for trait in traits)) for traits in _BALANCED]

    weights = tuple(_BALANCED.values())
    scene = min(decidable, key=lambda scene: sum(counts[key] * w for key, w in zip(keys(scene), weights, strict=True)))
    counts.update(keys(scene))
    return replace(scene, camera="static", light="day", size="medium")


def _canonical(scene: Scene, asked: tuple[str, ...]) -> str:
    """The plainest words for the scene."""
    article = "an" if scene.color[0] in "aeiou" else "a"
    noun, verb = NOUNS[scene.shape][0], VERBS[scene.motion][0]
    prompt = f"{article} {scene.color} {noun} {verb} on a {scene.floor} floor"
    if "light" in asked:
        prompt += " " + _phrases(LIGHT[scene.light])[0]
    if "camera" in asked:
        prompt += ", " + _phrases(CAMERA[scene.camera])[0]
    return prompt


def _paraphrase(scene: Scene, asked: tuple[str, ...], rng: random.Random) -> str:
    """A caption of the scene that names exactly what is asked."""
    for _ in range(10_000):
        text = describe(scene, rng)
        floors = (f"{scene.floor} floor", f"{scene.floor} ground", f"floor is {scene.floor}")
        names_floor = any(phrase in text for phrase in floors)
        names_camera = any(phrase in text for phrase in _phrases(CAMERA[scene.camera]))
        names_light = any(phrase in text for phrase in _phrases(LIGHT[scene.light]))
        if names_floor and names_camera == ("camera" in asked) and names_light == ("light" in asked):
            return text
    raise AssertionError(f"the caption grammar never names just {asked} of {scene}")


def _phrases(choices: tuple[str, ...]) -> list[str]:
    return [phrase for phrase in choices if phrase]
