"""Weights as plain numbers, whatever form a file keeps them in: scales are applied, or the file is refused.

Forms: plain; GGUF's packed blocks; fp8 and int8 with scales, which others name `scale_weight`, `weight_scale` or
`scale`, one a tensor, a row, a stretch of a row, or a block of 128 x 128; and fp8 as a plain cast, without scales.
A plain cast is told from a file whose scales were lost by its numbers. Scales stretch a tensor over the range of
fp8, so what is stored reaches 448 and its root mean square lies far above 1; trained weights lie far below 1.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from homereel.core.errors import WeightsError
from homereel.weights.checkpoint import FLOATS, FP8, Checkpoint
from homereel.weights.gguf_file import GgufTensor

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 128
MAX_CAST_RMS = 1.0
MAX_CAST_VALUE = 224.0  # half of what float8_e4m3fn can hold
SAMPLE_NUMBERS = 1_000_000

_MARKER = "scaled_fp8"  # an empty tensor by which ComfyUI's files say that their fp8 weights have scales
_SCALES = ("scale_weight", "weight_scale", "scale")
_ACTIVATIONS = ("scale_input", "input_scale")
_FORMAT = "comfy_quant"
_FORMATS = {"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "int8_tensorwise": "I8"}
_HARMLESS = frozenset({"format", "full_precision_matrix_mult", "per_row"})  # they say nothing of the weights
_QUANTISED = (*FP8, "I8")


@dataclass(frozen=True)
class Weights:
    """What a file's tensors mean: `shapes` by name, and `read` for the numbers of one."""

    shapes: Mapping[str, tuple[int, ...]]
    forms: Mapping[str, str]  # the type that each is stored in
    remarks: tuple[str, ...]  # in a line each, how the numbers were understood
    _checkpoint: Checkpoint
    _stored: Mapping[str, str]
    _scales: Mapping[str, Tensor]
    in_blocks: frozenset[str] = frozenset()  # those in int8 with a scale a block, which kernels take as they are

    def read_int8(self, name: str) -> tuple[Tensor, Tensor]:
        """A weight of `in_blocks` as it is stored, and its scale in float32."""
        return self._checkpoint.read(self._stored[name]), self._scales[name]

    def read(self, name: str) -> Tensor:
        """The numbers, in float32 if they had to be unpacked, else in their own type."""
        stored = self._checkpoint.read(self._stored[name])
        scale = self._scales.get(name)
        if scale is not None:
            return apply_scale(stored.float(), scale)
        return stored.float() if self.forms[name] in FP8 else stored


def unscaled_weights(checkpoint: Checkpoint, names: Mapping[str, str]) -> Weights:
    """The weights among `names` (short name → name in the file), each with its scale.

    Raises WeightsError if a scale is missing, does not fit or makes no sense, or if a form is not known.
    """
    sorter = _Sorter(checkpoint, names)
    stored, scales = sorter.weights(), sorter.scales()
    sorter.check_formats()
    types = {name: checkpoint.tensors[full].dtype for name, full in stored.items()}
    unscaled = [name for name in stored if types[name] in _QUANTISED and name not in scales]
    _check_unscaled(checkpoint, stored, unscaled, promised=sorter.promises_scales or bool(scales))
    for name, dtype in types.items():
        known = dtype in FLOATS or dtype in _QUANTISED
        if not known and not isinstance(checkpoint.tensors[stored[name]].place, GgufTensor):
            raise WeightsError(
                f"{checkpoint.paths[0]}: {name} is stored as {dtype}, in a packed form that is not read here; "
                "take the file in bf16, fp8, int8 or GGUF"
            )
    shapes = {name: checkpoint.tensors[full].shape for name, full in stored.items()}
    in_blocks = {
        name for name in scales if types[name] == "I8" and _is_block_scale(checkpoint, scales[name], shapes[name])
    }
    multiplied = {name for name in scales if name not in in_blocks}
    return Weights(
        shapes=shapes,
        forms=types,
        remarks=tuple(_remarks(types, multiplied, unscaled, num_activations=len(sorter.activations))),
        _checkpoint=checkpoint,
        _stored=stored,
        _scales={name: _read_scale(checkpoint, stored[name], full) for name, full in scales.items()},
        in_blocks=frozenset(in_blocks),
    )


def apply_scale(weight: Tensor, scale: Tensor) -> Tensor:
    """`weight` (float32, rows first) times its scale, whose shape says what each number belongs to."""
    rows = weight.shape[0]
    if scale.numel() == 1:
        return weight * scale.reshape(())
    if tuple(scale.shape) in ((rows,), (rows, 1)):
        return weight * scale.reshape(rows, *[1] * (weight.ndim - 1))
    if scale.ndim == 3:  # stretches of a row
        return (weight.reshape(rows, scale.shape[1], -1) * scale).reshape(weight.shape)
    whole = scale.repeat_interleave(BLOCK, dim=0).repeat_interleave(BLOCK, dim=1)
    return weight * whole[:rows, : weight.shape[1]]


class _Sorter:
    """Tells weights from what belongs to them."""

    def __init__(self, checkpoint: Checkpoint, names: Mapping[str, str]) -> None:
        self._checkpoint, self._names = checkpoint, names
        self._layers = {name.rpartition(".")[0] for name in names if name.endswith((".weight", ".int8_weight"))}
        self.activations = [name for name in names if self._belongs(name, _ACTIVATIONS)]
        self.promises_scales = _MARKER in names or bool(self._formats())

    def weights(self) -> dict[str, str]:
        """Name of a weight → name in the file."""
        aside = {_MARKER, *self.activations}
        kept = {}
        for name, full in self._names.items():
            if name in aside or self._belongs(name, (_FORMAT,)) or self._scaled_by(name) is not None:
                continue
            plain = name.removesuffix("int8_weight") + "weight" if name.endswith("int8_weight") else name
            if plain in kept:
                raise WeightsError(f"{self._checkpoint.paths[0]} holds {plain} twice")
            kept[plain] = full
        return kept

    def scales(self) -> dict[str, str]:
        """Name of a weight → name of its scale in the file."""
        found: dict[str, str] = {}
        for name, full in self._names.items():
            weight = self._scaled_by(name)
            if weight is not None and weight in found:
                raise WeightsError(f"{self._checkpoint.paths[0]} holds two scales of {weight}")
            if weight is not None:
                found[weight] = full
        return found

    def check_formats(self) -> None:
        """Refuse what would need more than a scale, such as rotated weights."""
        for layer, content in self._formats().items():
            weight = f"{layer}.weight"
            more = sorted(key for key, value in content.items() if key not in _HARMLESS and value)
            name = content.get("format", "int8_tensorwise" if "per_row" in content else "")
            if name not in _FORMATS or more:
                what = f"{name or 'no format'}{' with ' + ', '.join(more) if more else ''}"
                raise WeightsError(
                    f"{self._checkpoint.paths[0]}: {layer} is quantised as {what}, which is not read here; "
                    "take the file in bf16, fp8, int8 or GGUF"
                )
            full = self._names.get(weight)
            if full is not None and self._checkpoint.tensors[full].dtype != _FORMATS[name]:
                raise WeightsError(f"{self._checkpoint.paths[0]}: {weight} is not stored as {name}, as it says")

    def _belongs(self, name: str, endings: Iterable[str]) -> bool:
        layer, _, ending = name.rpartition(".")
        return ending in endings and layer in self._layers

    def _scaled_by(self, name: str) -> str | None:
        """The weight whose scale this is; `scale` alone may also be a parameter, so it needs an int8 weight."""
        layer, _, ending = name.rpartition(".")
        if not self._belongs(name, _SCALES):
            return None
        weight = self._names.get(f"{layer}.int8_weight") or self._names.get(f"{layer}.weight")
        assert weight is not None
        if ending == "scale" and self._checkpoint.tensors[weight].dtype != "I8":
            return None
        return f"{layer}.weight"

    def _formats(self) -> dict[str, dict[str, Any]]:
        """What the file says of the layers that are ours: by a tensor of text beside each, or in its remarks."""
        found = {
            name.rpartition(".")[0]: self._text(full)
            for name, full in self._names.items()
            if self._belongs(name, (_FORMAT,))
        }
        noted = self._checkpoint.metadata.get("_quantization_metadata")
        layers = _object(noted).get("layers", {}) if noted else {}
        if not isinstance(layers, dict) or not layers:
            return found
        for name, full in self._names.items():
            content = layers.get(full.rpartition(".")[0]) or layers.get(name.rpartition(".")[0])
            if name.endswith(".weight") and isinstance(content, dict):
                found.setdefault(name.rpartition(".")[0], content)
        return found

    def _text(self, full: str) -> dict[str, Any]:
        if self._checkpoint.tensors[full].dtype != "U8":
            return {}
        return _object(bytes(self._checkpoint.read(full, max_numbers=4096).tolist()).decode("utf-8", "replace"))


def _object(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _check_unscaled(
    checkpoint: Checkpoint, stored: Mapping[str, str], unscaled: Iterable[str], *, promised: bool
) -> None:
    for name in unscaled:
        info = checkpoint.tensors[stored[name]]
        is_matrix = name.endswith("weight") and len(info.shape) >= 2
        if info.dtype == "I8" or (is_matrix and promised):
            raise WeightsError(_lost_scale(checkpoint, name, info.dtype))
        if is_matrix and "embed" not in name:  # tables of embeddings may hold large numbers
            sample = checkpoint.read(stored[name], max_numbers=SAMPLE_NUMBERS).float()
            rms = float(sample.square().mean().sqrt())
            if not rms <= MAX_CAST_RMS or float(sample.abs().max()) >= MAX_CAST_VALUE:
                raise WeightsError(_lost_scale(checkpoint, name, info.dtype))


def _lost_scale(checkpoint: Checkpoint, name: str, dtype: str) -> str:
    kind = "int8" if dtype == "I8" else "fp8"
    return (
        f"{checkpoint.paths[0]}: {name} is stored in {kind} but its scale is missing, so its numbers mean nothing; "
        "fetch the file from where it was made, or take it in bf16"
    )


def _read_scale(checkpoint: Checkpoint, weight: str, full: str) -> Tensor:
    stored, shape = checkpoint.tensors[full], checkpoint.tensors[weight].shape
    if stored.dtype not in FLOATS:
        raise WeightsError(
            f"{checkpoint.paths[0]}: {full} is stored as {stored.dtype}, in a form of scales that is not read here; "
            "take the file in bf16, fp8, int8 or GGUF"
        )
    if not _fits(stored.shape, shape):
        raise WeightsError(f"{checkpoint.paths[0]}: {full} of shape {stored.shape} is no scale for a weight of {shape}")
    scale = checkpoint.read(full).float()
    if not bool((scale.isfinite() & (scale > 0)).all()):
        raise WeightsError(f"{checkpoint.paths[0]}: {full} holds scales that are not above 0; fetch the file again")
    return scale


def _fits(scale: tuple[int, ...], weight: tuple[int, ...]) -> bool:
    if all(side == 1 for side in scale) or not weight:
        return True
    if scale in (weight[:1], (weight[0], 1)):
        return True
    if len(weight) != 2:
        return False
    rows, columns = weight
    if len(scale) == 3:
        return scale[0] == rows and scale[2] == 1 and scale[1] > 0 and columns % scale[1] == 0
    return scale == block_scale_shape(rows, columns)


def _is_block_scale(checkpoint: Checkpoint, scale: str, weight: tuple[int, ...]) -> bool:
    return len(weight) == 2 and checkpoint.tensors[scale].shape == block_scale_shape(*weight)


def block_scale_shape(rows: int, columns: int) -> tuple[int, int]:
    """The shape of the scales of a matrix that has one a block."""
    return -(-rows // BLOCK), -(-columns // BLOCK)


def _remarks(
    types: Mapping[str, str], scales: Collection[str], unscaled: list[str], *, num_activations: int
) -> Iterable[str]:
    if scales:
        kinds = sorted({types[name] for name in scales})
        yield f"{len(scales)} weights in {', '.join(kinds)} were multiplied by their scales"
    cast = [name for name in unscaled if types[name] in FP8]
    if cast:
        yield f"{len(cast)} tensors in fp8 have no scales and lie in the range of weights: taken as a plain cast"
    if num_activations:
        yield f"{num_activations} scales of activations were not used"
    packed = sorted({dtype for dtype in types.values() if dtype not in FLOATS and dtype not in _QUANTISED})
    if packed:
        yield f"GGUF's {', '.join(packed)} was unpacked"
