"""Linear layers in 8 bits as modules, to stand where `nn.Linear` stood.

Buffers are `int8_weight` (or `fp8_weight`), `scale` and `bias`: the keys of TurboWan's files. Casting a module to
another type leaves them as they are; only their device changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from homereel.core.errors import WeightsError
from homereel.kernels.int8_linear import (
    QuantizedActivation,
    Scheme,
    dequantize_weight,
    quantize_activation,
    quantize_weight,
    quantized_matmul,
)
from homereel.kernels.int8_linear.schemes import RANGES, scale_shape


class QuantizedLinear(nn.Module):
    """What the three have in common. Without weights yet, so that a state dict can be loaded; or `from_linear`."""

    scheme: ClassVar[Scheme]
    weight_name: ClassVar[str] = "int8_weight"
    scale: Tensor
    bias: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        gelu: bool = False,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.gelu = gelu  # apply GELU (tanh form) to the result
        values = torch.zeros(out_features, in_features, dtype=RANGES[self.scheme].dtype, device=device)
        shape = scale_shape(out_features, in_features, scheme=self.scheme)
        self.register_buffer(self.weight_name, values)
        self.register_buffer("scale", torch.zeros(shape, device=device))
        self.register_buffer("bias", torch.zeros(out_features, dtype=dtype, device=device) if bias else None)

    @classmethod
    def from_linear(cls, linear: nn.Linear, *, gelu: bool = False) -> Self:
        """The layer in 8 bits, on its device. Raises UnsupportedPass if its weights cannot be quantised."""
        values, scale = quantize_weight(linear.weight.detach(), scheme=cls.scheme)
        bias = None if linear.bias is None else linear.bias.detach()
        return cls.from_tensors(values, scale=scale, bias=bias, gelu=gelu)

    @classmethod
    def from_tensors(cls, values: Tensor, *, scale: Tensor, bias: Tensor | None, gelu: bool = False) -> Self:
        """A layer of tensors that are in 8 bits already; raises WeightsError if they do not belong together."""
        wanted = RANGES[cls.scheme].dtype
        if values.dtype != wanted or values.ndim != 2:
            raise WeightsError(f"a weight in {cls.scheme} is a matrix of {wanted}, not {_told(values)}")
        rows, columns = values.shape
        shape = scale_shape(rows, columns, scheme=cls.scheme)
        if tuple(scale.shape) != shape:
            raise WeightsError(f"{_told(values)} needs a scale of shape {shape}, not {_told(scale)}")
        if bias is not None and tuple(bias.shape) != (rows,):
            raise WeightsError(f"{_told(values)} needs a bias of shape {(rows,)}, not {_told(bias)}")
        layer = cls(columns, rows, bias=False, gelu=gelu, device="meta")
        layer.register_buffer(cls.weight_name, values.contiguous())
        layer.scale = scale.float().contiguous()
        layer.bias = bias
        return layer

    def forward(self, x: Tensor | QuantizedActivation, *, quantized: QuantizedActivation | None = None) -> Tensor:
        """The layer's output for `x`, which may be in 8 bits already; or, for who listens to `x` as numbers, with
        `quantized` beside it: what `quantize(x)` gave, if another layer needed that too."""
        if quantized is None:
            quantized = x if isinstance(x, QuantizedActivation) else self.quantize(x)
        return quantized_matmul(quantized, self.values, self.scale, bias=self.bias, gelu=self.gelu)

    def quantize(self, x: Tensor) -> QuantizedActivation:
        """`x` as this layer takes it; all layers of one class that are given the same x can share it."""
        return quantize_activation(x, scheme=self.scheme)

    def dequantised(self) -> Tensor:
        """The weight that this layer computes with, float32 (outputs, inputs)."""
        return dequantize_weight(self.values, self.scale)

    @property
    def values(self) -> Tensor:
        """The 8-bit weight, whatever it is called."""
        return self.get_buffer(self.weight_name)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def keep_type(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        super()._apply(keep_type, recurse)  # type: ignore[no-untyped-call]
        return self


class Int8Linear(QuantizedLinear):
    """int8 with a scale a token and a scale an output: our own, and the fast one."""

    scheme = "int8"


class BlockInt8Linear(QuantizedLinear):
    """int8 with a scale a block of 128 x 128, as TurboWan's files keep it."""

    scheme = "int8_block"


class Fp8Linear(QuantizedLinear):
    """float8_e4m3fn with a scale a token and a scale an output."""

    scheme = "fp8"
    weight_name = "fp8_weight"


def _told(tensor: Tensor) -> str:
    return f"{tensor.dtype} of shape {tuple(tensor.shape)}"
