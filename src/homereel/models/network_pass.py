"""Names each pass through a transformer, so that what remembers earlier steps never mixes up two kinds of pass."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from homereel.core.model import Stage
from homereel.core.protocols import StepTime


def named_pass(denoiser: Any, name: str, *, time: StepTime, stage: Stage) -> AbstractContextManager[None]:
    """Around every call of a denoiser: `name` is what guidance compares, such as "prompt" or "negative".

    It also says where the clip stands, steps that are left out at the start included.
    """
    context: AbstractContextManager[None] = denoiser.cache_context(
        name, step_index=stage.first_step + time.step, num_inference_steps=stage.num_steps
    )
    return context


def input_dtype(denoiser: Any) -> torch.dtype:
    """What a denoiser of Wan's kind takes pictures and words in.

    diffusers' `dtype` is the same, but looks for hooks at every module of the network first: milliseconds a pass.
    """
    dtype: torch.dtype = denoiser.patch_embedding.weight.dtype
    return dtype
