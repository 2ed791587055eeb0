"""Makes a model in diffusers layout out of single files, whole or not at all: see `import_model`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from homereel.core.errors import WeightsError
from homereel.models.single_file.base import base_files, take_files, write_card
from homereel.models.single_file.identify import Network
from homereel.models.single_file.plan import DTYPES, INT8_ENDINGS, Plan, plan_import
from homereel.weights.hub_cache import free_bytes
from homereel.weights.imported import import_root, imported_model, new_import
from homereel.weights.model_folder import TUNED_ATTENTION
from homereel.weights.shard_writer import Entry, write_shards

if TYPE_CHECKING:
    from torch import Tensor

SPARE_BYTES = 256 * 1024**2  # what must stay free on the disk
_TORCH = {code: name for name, code in DTYPES.items()}


@dataclass(frozen=True)
class Progress:
    """Bytes written of all that will be."""

    done_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class Imported:
    """What an import made."""

    id: str
    path: str
    family: str
    base: str
    num_bytes: int
    remarks: tuple[str, ...]


def import_model(
    files: Sequence[Path],
    *,
    name: str | None = None,
    base: str | None = None,
    config: Path | None = None,
    dtype: str | None = None,
    trust_pickle: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Imported:
    """Convert one file, the parts of one, or two experts' files, to a model that is called `name` from then on.

    `base` is the model (or its folder) that gives all but the transformer; None: what the shapes say. `config` is
    the transformer's config.json, for sizes that are not known here. Without `dtype` weights become bfloat16, and those
    in int8 with a scale a block of 128 x 128 stay so. A pickle is opened in a process that can reach nothing; with
    `trust_pickle` also where there cannot be one. Everything is read and checked beforehand.
    Raises InvalidRequest, WeightsError or Stopped; then nothing is left behind.
    """
    plan = plan_import(files, name=name, base=base, config=config, dtype=dtype, trust_pickle=trust_pickle)
    index = plan.index()
    taken = base_files(plan.base, index)
    _check_room(plan.num_bytes)
    with new_import(plan.note) as folder:
        _write_networks(plan, folder, on_progress=on_progress, should_stop=should_stop)
        by_name = take_files(taken, folder)
        (folder / "model_index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
        source = Path(plan.note.sources[0]).name
        title = f"{plan.networks['transformer'].family.title}, from {source}"
        write_card(plan.base, folder, title=title, source=source, clip=plan.clip())
    made = imported_model(plan.note.name)
    assert made is not None
    links = (f"{len(by_name)} files of {plan.base.name} lie on another disk: that copy must stay",) if by_name else ()
    return Imported(
        id=plan.note.name,
        path=str(made.folder.path),
        family=plan.note.family,
        base=plan.base.name,
        num_bytes=made.num_bytes,
        remarks=plan.note.remarks + links,
    )


def _check_room(num_bytes: int) -> None:
    free = free_bytes(import_root())
    if num_bytes + SPARE_BYTES > free:
        raise WeightsError(
            f"{num_bytes / 1e9:.1f} GB will be written, but only {free / 1e9:.1f} GB are free in {import_root()}; "
            "make room, or set HOMEREEL_HOME to another disk"
        )


def _write_networks(
    plan: Plan,
    folder: Path,
    *,
    on_progress: Callable[[Progress], None] | None,
    should_stop: Callable[[], bool] | None,
) -> None:
    done, total = 0, plan.num_bytes

    def on_bytes(num_bytes: int) -> None:
        nonlocal done
        done += num_bytes
        if on_progress is not None:
            on_progress(Progress(done, total))

    for component, network in plan.networks.items():
        target = folder / component
        target.mkdir()
        (target / "config.json").write_text(json.dumps(plan.configs[component], indent=2), encoding="utf-8")
        entries = plan.entries(component)
        read = _reader(network, entries)
        write_shards(target, entries=entries, read=read, on_bytes=on_bytes, should_stop=should_stop)
        beside = plan.projections(component)
        if beside:
            read = _reader(network, beside)
            write_shards(
                target, entries=beside, read=read, stem=TUNED_ATTENTION, on_bytes=on_bytes, should_stop=should_stop
            )


def _reader(network: Network, entries: dict[str, Entry]) -> Callable[[str], Tensor]:
    import torch

    def read(name: str) -> Tensor:
        for index, ending in enumerate(INT8_ENDINGS):
            if name.endswith(ending):
                return network.read_int8(name.removesuffix(ending) + ".weight")[index]
        dtype: torch.dtype = getattr(torch, _TORCH[entries[name].dtype])
        return network.read(name).to(dtype)

    return read
