"""The Triton kernels of fused norms, compiled for GPUs that are not there: nothing spilt, memory read in wide steps."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kernels.compile_for import CAPABILITIES, NEEDS_TRITON, Compiled, compile_for

pytest.importorskip("triton", reason=NEEDS_TRITON)
ENDS = [80, 90, 120]  # what lies between is compiled the same way, without matrix instructions
STRIDES = ("x_stride_b", "x_stride_l", "cos_stride_b", "cos_stride_l", "cos_stride_h", "sin_stride_b", "sin_stride_l")


def check(compiled: Compiled) -> None:
    assert compiled.stack_bytes == 0
    assert compiled.shared_bytes <= 4096  # for sums over a token's warps only
    assert compiled.instructions(r"ld\.global[\w.:]*v4")
    assert compiled.instructions(r"st\.global[\w.:]*v4")


@pytest.mark.parametrize("capability", ENDS)
@pytest.mark.parametrize(
    ("group_size", "interleaved"),
    [(1536, True), (5120, True), (5120, False), (128, True)],
    ids=["Wan 1.3B", "Wan 14B", "halves", "a head"],
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


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("written", ["bf16", "i8", "fp8e4nv"])
def test_norm_and_modulation(written: str, capability: int) -> None:
    from homereel.kernels.fused_norm import triton as kernels

    if written == "fp8e4nv" and capability < 89:
        pytest.skip("no fp8 before 8.9")
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
