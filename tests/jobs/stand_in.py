"""What stands in for the engine where a test is about processes, not about films: no torch, and steps of any length.

Words of the prompt say what happens: "die" kills the process, "fall" raises, and "slow" steps take 0.05 s each.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np

from homereel.core.errors import Stopped
from homereel.core.events import Progress
from homereel.core.plan import Plan
from homereel.core.request import Request
from homereel.core.result import FiledClip, Timing, frames_sha256
from homereel.jobs.warm_model import WarmModel
from homereel.media import write_clip


class NoModel(WarmModel):
    """Nothing is loaded."""

    def session(self) -> Any:
        return None


def make(
    request: Request, target: Path, *, on_progress: Any, should_stop: Any, on_plan: Any, **_others: Any
) -> FiledClip:
    """As `engine.generate_file`."""
    steps, words = request.steps or 3, request.prompt.split()
    plan = make_plan(request, steps=steps)
    on_plan(plan)
    for step in range(1, steps + 1):
        if "slow" in words:
            time.sleep(0.05)
        if should_stop():
            raise Stopped("stopped as asked; no file was written")
        on_progress(Progress("denoise", step, steps, 0.0))
        if "die" in words:
            os.kill(os.getpid(), signal.SIGKILL)
        if "fall" in words:
            raise RuntimeError("fell")
    frames = np.random.default_rng(plan.seed).integers(0, 256, (plan.num_frames, 32, 32, 3), np.uint8)
    return FiledClip(
        path=write_clip(frames, target, fps=plan.fps),
        fps=plan.fps,
        request=request,
        plan=plan,
        timing=Timing(),
        peak_bytes=0,
        record={},
        frames_sha256=frames_sha256(frames),
        sound_sha256=None,
    )


def make_plan(request: Request, *, steps: int) -> Plan:
    """Small figures, whatever is asked."""
    zeros = {one.name: 0 for one in fields(Plan) if one.default is MISSING}
    named = {"model": "stand-in", "family": "", "sampler": "", "device": "cpu", "dtype": "float32"}
    sizes = {"width": 32, "height": 32, "num_frames": 5, "fps": 8.0, "steps": steps, "seed": request.seed or 0}
    return Plan(**{**zeros, **named, **sizes})  # type: ignore[arg-type]
