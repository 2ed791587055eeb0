"""Where the weights of a block lie while it does not compute: in one stretch of the host's memory, or in a mapped file.

`StreamBlocks` makes a home a block; `residency_lane.py` takes its weights from there to the device.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from homereel.core.environment import read_environment
from homereel.core.errors import WeightsError

# Tensors begin at multiples of this, as the device's own allocator has them.
ALIGNMENT = 256


@dataclass(frozen=True)
class Kept:
    """One parameter or buffer, what it holds on the host, and where it begins in a stretch of bytes."""

    tensor: Tensor
    on_host: Tensor
    offset: int


class Home:
    """A block's weights. `flat` is all of them in one page-locked stretch, None where they have to be gathered."""

    def __init__(self, kept: Sequence[Kept], *, num_bytes: int, flat: Tensor | None = None) -> None:
        self.kept, self.num_bytes, self.flat = tuple(kept), num_bytes, flat

    def views(self, buffer: Tensor) -> tuple[Tensor, ...]:
        """Each tensor as it lies in a stretch of bytes, on whatever device."""
        with torch.inference_mode(False):
            return tuple(_view(buffer, each.offset, like=each.on_host) for each in self.kept)

    def gather(self, views: Sequence[Tensor]) -> None:
        """Copy every tensor from the host to its view; from a file this is when it is read."""
        for each, view in zip(self.kept, views, strict=True):
            view.copy_(each.on_host)

    def lend(self, views: Sequence[Tensor]) -> None:
        """From now on the block computes with these."""
        for each, view in zip(self.kept, views, strict=True):
            each.tensor.data = view

    def bring_back(self) -> None:
        """The block's tensors are those of the host again."""
        for each in self.kept:
            each.tensor.data = each.on_host


def home_of(block: nn.Module, *, source: Literal["memory", "disk"], pin: bool) -> Home:
    """Make a home for a loaded block and bring it there, wherever it is.

    From the disk, weights that were mapped from their file stay mapped; others, changed since, are written to a file
    of their own that goes with this process. Raises WeightsError if the disk has no room for them.
    """
    tensors = _tensors(block)
    if source == "disk":
        mapped = _mapped_ranges()
        if any(not _is_mapped(tensor, mapped) for tensor in tensors):
            _spill(tensors)
        kept, num_bytes = _laid_out(tensors, [tensor.data for tensor in tensors])
        return Home(kept, num_bytes=num_bytes)
    _, num_bytes = _laid_out(tensors, [tensor.data for tensor in tensors])
    flat, is_pinned = host_stretch(num_bytes, pin=pin)
    kept, _ = _laid_out(tensors, [tensor.data for tensor in tensors])
    with torch.inference_mode(False):
        moved = [Kept(each.tensor, _view(flat, each.offset, like=each.on_host), each.offset) for each in kept]
    for before, each in zip(kept, moved, strict=True):
        each.on_host.copy_(before.on_host)
    home = Home(moved, num_bytes=num_bytes, flat=flat if is_pinned or not pin else None)
    home.bring_back()
    return home


def host_stretch(num_bytes: int, *, pin: bool) -> tuple[Tensor, bool]:
    """Bytes of the host, and whether they are page-locked, which a driver may refuse.

    They are locked where they are: torch's own way would round each stretch up to a power of two.
    """
    with torch.inference_mode(False):
        flat = torch.empty(num_bytes, dtype=torch.uint8)
    if not (pin and num_bytes):
        return flat, False
    runtime: Any = torch.cuda.cudart()
    if int(runtime.cudaHostRegister(flat.data_ptr(), flat.nbytes, 0)) != 0:
        with suppress(RuntimeError):  # CUDA tells of a refusal once more, to whoever asks next
            torch.zeros(1, device="cuda").item()
        return flat, False
    # The storage is held until it is unlocked, whoever still looks at it then.
    weakref.finalize(flat, _unpin, flat.untyped_storage()).atexit = False
    return flat, True


def _tensors(block: nn.Module) -> list[Tensor]:
    return [*block.parameters(), *block.buffers()]


def _laid_out(tensors: Sequence[Tensor], on_host: Sequence[Tensor]) -> tuple[list[Kept], int]:
    kept, end = [], 0
    for tensor, data in zip(tensors, on_host, strict=True):
        kept.append(Kept(tensor, data, end))
        end += -(-_span_bytes(data) // ALIGNMENT) * ALIGNMENT
    return kept, end


def _span_bytes(like: Tensor) -> int:
    """Bytes from the first to the last number, for any order of dimensions."""
    if like.numel() == 0:
        return 0
    return (sum((side - 1) * step for side, step in zip(like.shape, like.stride(), strict=True)) + 1) * like.itemsize


def _view(buffer: Tensor, offset: int, *, like: Tensor) -> Tensor:
    stretch = buffer[offset : offset + _span_bytes(like)].view(like.dtype)
    return stretch.as_strided(like.shape, like.stride())


def _in_memory_order(data: Tensor) -> Tensor:
    """All numbers in one row, in the order in which they lie."""
    return data.as_strided((_span_bytes(data) // data.itemsize,), (1,))


def _unpin(storage: torch.UntypedStorage) -> None:
    runtime: Any = torch.cuda.cudart()
    runtime.cudaHostUnregister(storage.data_ptr())


def _mapped_ranges() -> list[tuple[int, int]]:
    """Where safetensors files are mapped in this process; empty where the system does not tell."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        if ".safetensors" in line:
            start, _, end = line.split(maxsplit=1)[0].partition("-")
            found.append((int(start, 16), int(end, 16)))
    return found


def _is_mapped(tensor: Tensor, ranges: Sequence[tuple[int, int]]) -> bool:
    if tensor.device.type != "cpu" or not tensor.numel():
        return tensor.numel() == 0
    start = tensor.data_ptr()
    return any(low <= start and start + _span_bytes(tensor) <= high for low, high in ranges)


def _spill(tensors: Sequence[Tensor]) -> None:
    """Write the tensors to a file, map it in their place, and unlink it, so that nothing is left behind."""
    folder = read_environment().home / "streamed"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        place = tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True)
        with place as inner:
            file = Path(inner) / "block.safetensors"
            stretches = {str(index): _in_memory_order(tensor.data).cpu() for index, tensor in enumerate(tensors)}
            save_file(stretches, file)
            del stretches
            with safe_open(str(file), framework="pt", device="cpu") as stored:
                for index, tensor in enumerate(tensors):
                    mapped = stored.get_tensor(str(index))
                    tensor.data = mapped.as_strided(tensor.shape, tensor.stride())
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"blocks cannot be streamed from {folder}: {error}; free some room there, or stream from memory"
        ) from None
