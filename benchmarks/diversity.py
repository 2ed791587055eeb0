"""How different a model's clips of one prompt are: a distillation that gives the same clip for every seed has failed.

Usage: python benchmarks/diversity.py --model runs/distill/student [--against pocket] [--steps 4] [--prompts 8]
Tells the mean root-mean-square distance of two seeds' frames (0 to 1) over all pairs and prompts, and the ratio.
Both models make the same seeds; blurred clips are alike, too, so look at the exam beside it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homereel.core.request import Request
from homereel.engine.generate import generate
from homereel.engine.session import Session
from homereel.training.exam import make_questions


def diversity(model: str, *, num_prompts: int, num_seeds: int, steps: int | None = None) -> float:
    """Mean distance of two seeds' clips of one prompt, of the exam's prompts."""
    distances = []
    with Session() as session:
        for question in make_questions(num_prompts):
            clips = []
            for seed in range(num_seeds):
                wanted = Request(prompt=question.prompt, model=model, seed=seed, steps=steps)
                clips.append(generate(wanted, session=session).frames)
            distances += [distance(*pair) for pair in itertools.combinations(clips, 2)]
    return statistics.mean(distances)


def distance(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Root mean square of the frames' difference, 0 to 1."""
    difference = (first.astype(np.float32) - second.astype(np.float32)) / 255
    return float(np.sqrt(np.mean(difference**2)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--against", default="pocket")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=4)
    options = parser.parse_args()
    counts: dict[str, Any] = {"num_prompts": options.prompts, "num_seeds": options.seeds}
    own = diversity(options.model, steps=options.steps, **counts)
    other = diversity(options.against, **counts)
    print(json.dumps({"model": own, "against": other, "ratio": own / other, **counts}, indent=2))


if __name__ == "__main__":
    main()
