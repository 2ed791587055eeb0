"""What a pickle of weights holds: names, types, shapes and places of its tensors. Runs in a locked process only.

It is opened by the unpickler of torch.load(weights_only=True), which builds tensors and plain containers and nothing
else. Tensors are made on the meta device, so whatever their sizes, they take no memory; their numbers stay in the file.
"""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._weights_only_unpickler import Unpickler

WRAPPERS = ("state_dict", "model", "module")
MAX_TENSORS = 100_000
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


def describe(pickled: bytes) -> dict[str, Any]:
    """For each tensor [type, shape, strides, place in its storage, name of its storage], or why it is refused."""
    reader = _Reader(io.BytesIO(pickled))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content: Any = reader.load()  # type: ignore[no-untyped-call]
        found, left = _table_of_tensors(content)
        tensors = {name: reader.place(name, value) for name, value in found.items() if isinstance(value, Tensor)}
    except MemoryError:
        return {"refused": "it asks for more memory than any list of weights needs"}
    except Exception as error:  # noqa: BLE001  # hostile bytes can bring about any
        return {"refused": _reason(error)}
    left += [str(name) for name, value in found.items() if not isinstance(value, Tensor)]
    return {"tensors": tensors, "left": sorted(left)[:20]}


def warm_up() -> None:
    """Import and cache all that `describe` needs."""
    sample = {"a": torch.zeros(2, 2, dtype=torch.bfloat16), "b": torch.nn.Parameter(torch.zeros(1))}
    file = io.BytesIO()
    torch.save({"state_dict": sample}, file)
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        described = describe(archive.read(names[0]))
    assert described["tensors"].keys() == sample.keys(), described
    describe(b"cos\nsystem\n.")


class _Reader(Unpickler):
    """Makes storages without memory, and remembers their names."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="utf-8")
        self._storages: dict[str, Any] = {}
        self._names: dict[int, str] = {}

    def persistent_load(self, pid: Any) -> Any:
        _, kind, key, _, count = pid
        dtype = torch.uint8 if kind is torch.UntypedStorage else kind.dtype
        if key not in self._storages:
            untyped = torch.UntypedStorage(count * dtype.itemsize, device="meta")
            self._storages[key] = untyped
            self._names[untyped._cdata] = key
        return torch.storage.TypedStorage(wrap_storage=self._storages[key], dtype=dtype, _internal=True)

    def place(self, name: Any, tensor: Tensor) -> list[Any]:
        """Where the file has it. Raises ValueError for what is no plain tensor of the file."""
        if not isinstance(name, str):
            raise ValueError("its tensors have no names")
        plain = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout == torch.strided
        storage = self._names.get(tensor.untyped_storage()._cdata) if plain and tensor.is_meta else None
        if storage is None or tensor.is_quantized:
            raise ValueError(f"{name[:80]} is no plain tensor")
        dtype = str(tensor.dtype).removeprefix("torch.")
        return [dtype, list(tensor.shape), list(tensor.stride()), tensor.storage_offset(), storage]


def _table_of_tensors(content: Any) -> tuple[Mapping[Any, Any], list[str]]:
    """The table of names and tensors, which a wrapper or two may hold; and what else these hold."""
    beside: list[str] = []
    for _ in range(3):
        if not isinstance(content, dict):
            break
        if len(content) > MAX_TENSORS:
            raise ValueError(f"it holds {len(content)} entries")
        if any(isinstance(value, Tensor) for value in content.values()):
            return content, beside
        inside = [name for name in WRAPPERS if isinstance(content.get(name), dict)]
        if len(inside) != 1:
            raise ValueError(_unknown_parts(content, inside))
        beside += [str(name) for name in content if name != inside[0]]
        content = content[inside[0]]
    raise ValueError(f"it holds a {type(content).__name__} where a table of tensors should be")


def _unknown_parts(content: Mapping[Any, Any], inside: list[str]) -> str:
    if inside:
        return f"it holds both {' and '.join(inside)}; save the one that is meant in a file of its own"
    parts = ", ".join(_names(content)) or "nothing"
    return f"it holds no table of tensors, but {parts}; save the network's state_dict in a file of its own"


def _names(content: Mapping[Any, Any]) -> Iterator[str]:
    for number, name in enumerate(content):
        if number == 5:
            yield "..."
            return
        yield str(name)[:40]


def _reason(error: Exception) -> str:
    asked = _GLOBAL.search(str(error))
    if asked is not None:
        return f"it asks for {asked[1]}, which a file of weights does not need"
    text = (str(error).splitlines() or [""])[0] or type(error).__name__
    return text if type(error) is ValueError else f"it is not as torch.save writes weights ({text})"
