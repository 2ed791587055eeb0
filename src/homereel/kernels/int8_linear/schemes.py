"""The three ways in which a linear layer is kept in 8 bits, and the numbers that define them.

int8        one scale a token and one an output channel; one int32 sum, scales applied once at the end (fast)
int8_block  one scale a block of 128 x 128, of weights and of activations (files of TurboWan)
fp8         float8_e4m3fn, one scale a token and one an output channel
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from homereel.core.errors import UnsupportedPass

Scheme = Literal["int8", "int8_block", "fp8"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
BLOCK = 128  # tokens, inputs and outputs that share a scale in int8_block
MAX_INPUTS = 2**31 // (127 * 127)  # beyond this an int32 sum may overflow
FLOATS = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Range:
    """`limit` is what the largest number of a token or block becomes; smaller ones than `floor` count as `floor`."""

    limit: float
    lowest: float
    highest: float
    floor: float
    dtype: torch.dtype


RANGES: dict[Scheme, Range] = {
    "int8": Range(127.0, -127.0, 127.0, 1e-30, torch.int8),
    "int8_block": Range(128.0, -128.0, 127.0, 1e-8, torch.int8),
    "fp8": Range(448.0, -448.0, 448.0, 1e-30, torch.float8_e4m3fn),
}


class QuantizedActivation(NamedTuple):
    """Numbers that went into 8 bits once, for any number of layers that take the same input.

    M tokens, K inputs. `shape` and `dtype` are those of the tensor that was quantised.
    """

    values_MK: Tensor
    scale: Tensor  # float32, (M,) or (blocks of M, blocks of K)
    scheme: Scheme
    shape: torch.Size
    dtype: torch.dtype


def known_scheme(name: str) -> Scheme:
    """`name`, if it is a scheme; raises UnsupportedPass if not."""
    for scheme in SCHEMES:
        if name == scheme:
            return scheme
    raise UnsupportedPass(f"there is no 8-bit scheme {name!r}; choose one of {', '.join(SCHEMES)}")


def scheme_of(values: Tensor, scale: Tensor) -> Scheme:
    """What numbers and their scale are, from their type and shape."""
    if values.dtype == torch.float8_e4m3fn:
        return "fp8"
    return "int8" if scale.ndim == 1 else "int8_block"


def scale_shape(rows: int, columns: int, *, scheme: Scheme) -> tuple[int, ...]:
    """The shape of the scale that belongs to a matrix of weights or activations."""
    return (-(-rows // BLOCK), -(-columns // BLOCK)) if scheme == "int8_block" else (rows,)
