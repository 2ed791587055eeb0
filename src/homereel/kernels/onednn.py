"""Whether the processor's own library, oneDNN, computes a kind of number with instructions made for it."""

from __future__ import annotations

from functools import cache

import torch


def onednn_takes(dtype: torch.dtype) -> bool:
    """bfloat16 only where the processor has instructions for it."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and _multiplies_bfloat16())


@cache
def _multiplies_bfloat16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
