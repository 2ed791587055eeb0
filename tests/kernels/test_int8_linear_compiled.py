"""The Triton kernels of 8-bit linear layers, compiled for GPUs that are not there.

They must fit into shared memory, keep their registers, copy ahead of the arithmetic, and use the 8-bit matrix
instruction of their generation. On 10.x int8 has none of its own, which is why fp8 is preferred there.
"""

from __future__ import annotations

from typing import Any

import pytest

from homereel.kernels.int8_linear import Scheme, preferred_scheme
from homereel.kernels.int8_linear.tiles import Tile, choose_tile
from tests.kernels.compile_for import CAPABILITIES, NEEDS_TRITON, SHARED_LIMIT_BYTES, Compiled, compile_for
from tests.kernels.slow import slow

pytest.importorskip("triton", reason=NEEDS_TRITON)
WAN_TOKENS, TEXT_TOKENS, WAN_OUTPUTS, WAN_INPUTS = 32760, 512, 5120, 5120
INSTRUCTIONS: dict[tuple[int, str], str] = {
    **{(capability, "int8"): r"mma\.sync\.aligned\.m16n8k32\.row\.col[\w.]*\.s32\.s8" for capability in (80, 89, 120)},
    (90, "int8"): r"wgmma\.mma_async\.sync\.aligned\.m64n\d+k32\.s32\.s8\.s8",
    (100, "int8"): r"mma\.sync\.aligned\.m16n8k32",
    **{(capability, "fp8"): r"mma\.sync\.aligned\.m16n8k32\.row\.col\.f32\.e4m3\.e4m3" for capability in (89, 120)},
    (90, "fp8"): r"wgmma\.mma_async\.sync\.aligned\.m64n\d+k32\.f32\.e4m3\.e4m3",
    (100, "fp8"): r"tcgen05\.mma\.cta_group::1\.kind::f8f6f4",
}


def compiled_matmul(scheme: Scheme, *, capability: int, num_inputs: int, tile: Tile) -> Compiled:
    """With bias and GELU, which need the most registers."""
    from homereel.kernels.int8_linear import triton as kernels

    values = "fp8e4nv" if scheme == "fp8" else "i8"
    factors = {"x_ptr": tile.rows, "weight_ptr": tile.columns}
    signature = {
        "x_scale_ptr": "*fp32",
        "weight_scale_ptr": "*fp32",
        "bias_ptr": "*bf16",
        "out_ptr": "*bf16",
        **dict.fromkeys(("num_tokens", "num_outputs", "num_inputs"), "i32"),
        **{
            name: f"tensordesc<{values}[{size}, {tile.depth}]>" if tile.tma else f"*{values}"
            for name, size in factors.items()
        },
    }
    settings: dict[str, Any] = kernels.matmul_settings(num_inputs, scheme=scheme, tile=tile)
    warps, stages = settings.pop("num_warps"), settings.pop("num_stages")
    return compile_for(
        kernels.matmul_blocks_kernel if scheme == "int8_block" else kernels.matmul_kernel,
        capability=capability,
        signature=signature,
        constants={"HAS_BIAS": True, "GELU": True, **settings},
        divisible=("num_outputs", "num_inputs") if num_inputs % 16 == 0 else ("num_outputs",),
        num_warps=warps,
        num_stages=stages,
    )


def check(compiled: Compiled, *, capability: int, scheme: Scheme) -> None:
    assert compiled.shared_bytes <= SHARED_LIMIT_BYTES[capability]
    assert compiled.stack_bytes == 0
    assert compiled.is_pipelined
    wanted = INSTRUCTIONS[capability, "fp8" if scheme == "fp8" else "int8"]
    assert compiled.instructions(wanted), compiled.instructions(r"mma|wgmma|tcgen05\.mma")


def tile_for(num_tokens: int, *, scheme: Scheme, capability: int, aligned: bool = True) -> Tile:
    generation = divmod(capability, 10)
    return choose_tile(num_tokens, num_outputs=WAN_OUTPUTS, scheme=scheme, capability=generation, aligned=aligned)


@pytest.mark.parametrize(
    ("capability", "num_tokens"),
    [*((capability, WAN_TOKENS) for capability in CAPABILITIES), (80, TEXT_TOKENS), (90, 40)],
)
def test_the_preferred_scheme_compiles_to_fast_code(capability: int, num_tokens: int) -> None:
    scheme = preferred_scheme(divmod(capability, 10))
    assert scheme is not None
    tile = tile_for(num_tokens, scheme=scheme, capability=capability)
    compiled = compiled_matmul(scheme, capability=capability, num_inputs=WAN_INPUTS, tile=tile)
    check(compiled, capability=capability, scheme=scheme)
    assert bool(compiled.instructions(r"cp\.async\.bulk\.tensor")) == (capability in (90, 100))


# On 10.x it is the preferred one, and 12.x has the instruction of 8.9.
@pytest.mark.parametrize("capability", [89, 90, *slow((120,))])
def test_fp8_compiles_wherever_there_is_an_instruction(capability: int) -> None:
    tile = tile_for(WAN_TOKENS, scheme="fp8", capability=capability)
    check(
        compiled_matmul("fp8", capability=capability, num_inputs=WAN_INPUTS, tile=tile),
        capability=capability,
        scheme="fp8",
    )


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_blocks_of_turbowan_compile_everywhere(capability: int) -> None:
    tile = tile_for(WAN_TOKENS, scheme="int8_block", capability=capability)
    check(
        compiled_matmul("int8_block", capability=capability, num_inputs=WAN_INPUTS, tile=tile),
        capability=capability,
        scheme="int8_block",
    )


@pytest.mark.parametrize(
    ("scheme", "capability"), [("int8", 120), ("int8_block", 80), *slow(("int8", 80), ("int8_block", 90))]
)
def test_inputs_that_fill_no_whole_step_cost_neither_registers_nor_shared_memory(
    scheme: Scheme, capability: int
) -> None:
    tile = tile_for(WAN_TOKENS, scheme=scheme, capability=capability)
    compiled = compiled_matmul(scheme, capability=capability, num_inputs=WAN_INPUTS + 16, tile=tile)
    check(compiled, capability=capability, scheme=scheme)


def test_rows_that_start_anywhere_still_compile() -> None:
    tile = tile_for(WAN_TOKENS, scheme="int8", capability=90, aligned=False)
    compiled = compiled_matmul("int8", capability=90, num_inputs=WAN_INPUTS + 1, tile=tile)
    assert compiled.shared_bytes <= SHARED_LIMIT_BYTES[90]
    assert compiled.stack_bytes == 0
    assert compiled.instructions(INSTRUCTIONS[90, "int8"])


@pytest.mark.parametrize(
    ("scheme", "num_inputs", "capability"),
    [
        *(("int8", 1536, capability) for capability in CAPABILITIES),
        *(("int8_block", 5120, capability) for capability in CAPABILITIES),
        ("int8", 20000, 90),
        *(("fp8", 13824, capability) for capability in (89, 100)),
        *slow(*(("fp8", 13824, capability) for capability in (90, 120))),
    ],
)
def test_quantising_reads_sixteen_bytes_at_a_time_and_spills_nothing(
    scheme: Scheme, num_inputs: int, capability: int
) -> None:
    from homereel.kernels.int8_linear import triton as kernels

    signature = {"x_ptr": "*bf16", "values_ptr": "*fp8e4nv" if scheme == "fp8" else "*i8", "scale_ptr": "*fp32"}
    settings = {"FLOOR": 1e-8, "num_warps": 8}
    kernel, sizes = kernels.quantize_blocks_kernel, {"num_tokens": "i32", "num_inputs": "i32"}
    if scheme != "int8_block":
        kernel, sizes = kernels.quantize_rows_kernel, {"num_inputs": "i32"}
        settings = kernels.row_settings(num_inputs, scheme=scheme)
    warps = int(settings.pop("num_warps"))
    compiled = compile_for(
        kernel,
        capability=capability,
        signature=signature | sizes,
        constants=settings,
        divisible=("num_inputs",),
        num_warps=warps,
    )
    assert compiled.stack_bytes == 0
    assert compiled.instructions(r"ld\.global[\w.:]*v4")
