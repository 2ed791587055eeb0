"""A child for plans that needs no torch: what it does is what the prompt says."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from homereel.core.errors import DoesNotFit
from homereel.core.plan import Plan, Residency, Rung, StageCost
from homereel.core.request import Request
from homereel.server.planning_child import answer_questions

PLAN = Plan(
    model="stand-in",
    family="wan",
    width=64,
    height=64,
    num_frames=5,
    fps=8.0,
    steps=4,
    guidance=1.0,
    shift=3.0,
    sampler="unipc",
    seed=7,
    device="cpu",
    dtype="float32",
    num_tokens=32,
    weight_bytes=1,
    peak_bytes=2,
    seconds=3.0,
    residency=Residency(vae_tiles=(5, 32, 32)),
    rungs=(Rung("decode in pieces", {"vae_tiles": (1, 32, 32)}),),
    stages=(StageCost("text", 0.5, 0, 1),),
    band=(2.0, 4.0),
)


class StandInPlans:
    def ready(self) -> None:
        print("a library has something to say")

    def plan(self, request: Request) -> Plan:
        word, _, rest = request.prompt.partition(" ")
        if word == "large":
            raise DoesNotFit("it is too large", field="size")
        if word == "bug":
            raise KeyError("an oversight")
        if word == "die" and not (rest and Path(rest).exists()):
            if rest:
                Path(rest).touch()
            os.abort()
        if word == "think":
            Path(rest).write_text(str(os.getpid()))
            time.sleep(600)
        return PLAN

    def close(self) -> None:
        pass


if __name__ == "__main__":
    answer_questions(StandInPlans(), idle_seconds=float(sys.argv[1]))
