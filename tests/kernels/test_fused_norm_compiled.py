"""The Triton kernels of fused norms, compiled for GPUs that are not there: nothing spilt, memory read in wide steps."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kernels.compile_for import CAPABILITIES, NEEDS_TRITON, Compiled, compile_for
from tests.kernels.slow import slow

pytest.importorskip("triton", reason=NEEDS_TRITON)
STRIDES = ("x_stride_b", "x_stride_l", "cos_stride_b", "cos_stride_l", "cos_stride_h", "sin_stride_b", "sin_stride_l")


def check(compiled: Compiled) -> None:
    assert compiled.stack_bytes == 0
    assert compiled.shared_bytes <= 4096  # for sums over a token's warps only
    assert compiled.instructions(r"ld\.global[\w.:]*v4")
    assert compiled.instructions(r"st\.global[\w.:]*v4")


@pytest.mark.parametrize(
    ("group_size", "interleaved", "capability"),
    [
        *((5120, True, capability) for capability in CAPABILITIES),
        *((1536, True, 90), (5120, False, 90), (128, True, 90)),  # Wan 1.3B, LTX-2's halves, a head of HunyuanVideo
        *slow(*((*group, end) for group in ((1536, True), (5120, False), (128, True)) for end in (80, 120))),
    ],
)
def test_rms_norm_and_rope(group_size: int, interleaved: bool, capability: int) -> None:
    from homereel.kernels.fused_norm import triton as kernels

    settings = kernels.rope_settings(group_size, head_size=128, interleaved=interleaved)
    warps, strides = settings.pop("num_warps"), (*STRIDES, "sin_stride_h")
    check(
        compile_for(
            kernels.rms_norm_rope_kernel,
            capability=capability,
            signature={
                **dict.fromkeys(("x_ptr", "weight_ptr", "out_ptr"), "*bf16"),
                **dict.fromkeys(("cos_ptr", "sin_ptr", "eps"), "*fp32"),
                **dict.fromkeys(("num_rows", "length", "num_channels", *strides), "i32"),
                "eps": "fp32",
            },
            constants={"HAS_ROPE": True, **settings},
            divisible=("num_channels", *strides),
            num_warps=warps,
        )
    )


@pytest.mark.parametrize(
    ("written", "capability"),
    [
        *(("i8", capability) for capability in CAPABILITIES),
        ("bf16", 90),
        ("fp8e4nv", 89),
        ("fp8e4nv", 100),
        *slow(*(("bf16", other) for other in CAPABILITIES if other != 90), ("fp8e4nv", 90), ("fp8e4nv", 120)),
    ],
)
def test_norm_and_modulation(written: str, capability: int) -> None:
    """Into 8 bits it does all that it does otherwise, and more."""
    from homereel.kernels.fused_norm import triton as kernels

    settings: dict[str, Any] = kernels.norm_settings(5120)
    warps = settings.pop("num_warps")
    strides = ("gain_stride_b", "gain_stride_l", "offset_stride_b", "offset_stride_l")
    asked = dict.fromkeys(("ADD_ONE", "CENTRE", "HAS_GAIN", "HAS_OFFSET"), True)
    steps = {"QUANTIZE": written != "bf16", "LIMIT": 127.0, "FLOOR": 1e-30, "IS_INT": written == "i8"}
    check(
        compile_for(
            kernels.norm_modulate_kernel,
            capability=capability,
            signature={
                **dict.fromkeys(("gain_ptr", "offset_ptr", "scale_ptr"), "*fp32"),
                **dict.fromkeys(("length", *strides), "i32"),
                "x_ptr": "*bf16",
                "out_ptr": f"*{written}",
                "eps": "fp32",
            },
            constants={**asked, **steps, **settings},
            divisible=strides,
            num_warps=warps,
        )
    )
