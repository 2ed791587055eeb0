"""Passes: a file a technique that changes how a denoiser computes, never what it is. Each can be undone.

`table` knows them by name and in their order, `apply` puts them onto a loaded denoiser, `turbo` chooses.
"""

from __future__ import annotations

from homereel.passes.apply import apply_passes, worst_exactness
from homereel.passes.table import PASSES, parse_passes
from homereel.passes.turbo import Choice, slow_here, turbo

__all__ = ["PASSES", "Choice", "apply_passes", "parse_passes", "slow_here", "turbo", "worst_exactness"]
