"""How the work of a matrix product is cut for each generation of GPU: pure tables, without torch or Triton.

A tile of 8-bit numbers takes (rows + columns) * depth bytes of shared memory a stage. Consumer GPUs (8.9, 12.x)
have 99 KiB a block, data-centre ones 163 (8.0) or 227 (9.0, 10.x).
"""

from __future__ import annotations

from dataclasses import dataclass

from homereel.kernels.int8_linear.schemes import Scheme

Capability = tuple[int, int]


@dataclass(frozen=True)
class Tile:
    """Rows (tokens), columns (outputs) and depth (inputs) of one step of one program, and how it is run."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int
    tma: bool = False  # read by the tensor copy engine, which wants rows that start at 16 bytes


def choose_tile(
    num_tokens: int, *, num_outputs: int, scheme: Scheme, capability: Capability, aligned: bool = True
) -> Tile:
    """The tile for a product of tokens x outputs. `aligned`: every row of both factors starts at 16 bytes."""
    if scheme == "int8_block":  # a tile must lie within one block of scales
        return Tile(128, 128, 128, 8, 3)
    if not aligned:  # bytes are read one by one
        return Tile(64, 64, 64, 4, 2)
    tma = capability[0] in (9, 10)
    if num_tokens <= 64:
        return Tile(64, 128, 128, 4, 3, tma)
    if num_tokens * num_outputs <= 2048 * 2048:  # few tiles: smaller ones keep more processors busy
        return Tile(128, 128, 128, 8, 3, tma)
    if capability[0] == 10:  # 256 columns would spill registers where sums leave the tensor memory
        return Tile(128, 128, 128, 8, 5, tma)
    return Tile(128, 256, 128, 8, 4, tma) if tma else Tile(128, 256, 64, 8, 4)
