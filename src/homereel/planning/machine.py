"""Looks at this machine: what computes, how many threads, how much memory this process may really use, how fast it is.

Nothing is computed for it and torch is not imported; `calibrate.py` measures, and what it found is read here.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from homereel.core.environment import asked_threads, read_environment
from homereel.core.errors import InvalidRequest
from homereel.core.gpu import has_cuda_gpu
from homereel.core.machine import Machine
from homereel.planning.gpus import list_gpus
from homereel.planning.rates import kept_rates, known_rates, usual_threads

_CGROUP = Path("/sys/fs/cgroup")
_UNKNOWN_RAM_BYTES = 8 * 1024**3
# Of a GPU that is only spoken of: the generation of most that are in use.
_USUAL_CAPABILITY = (8, 9)


def probe_machine() -> Machine:
    """The machine as it is now. HOMEREEL_DEVICE chooses the device; else a GPU is taken if there is one.

    HOMEREEL_DTYPE chooses the format of numbers; else it is the one in which the machine computes fastest.
    """
    surroundings = read_environment()
    wanted, dtype = surroundings.device, surroundings.dtype
    gpus = list_gpus() if has_cuda_gpu() else ()
    if wanted == "cuda" and not gpus:
        raise InvalidRequest(
            "HOMEREEL_DEVICE is cuda, but there is no such GPU that this torch can use; unset it or use cpu",
            field="HOMEREEL_DEVICE",
        )
    common: dict[str, Any] = {
        "num_threads": num_threads(),
        "ram_bytes": usable_ram_bytes(),
        "ram_free_bytes": free_ram_bytes(),
        "disk_free_bytes": _free_disk_bytes(surroundings.home),
    }
    if gpus:
        first = gpus[0]
        machine = Machine(
            device="cuda",
            name=first.name,
            vram_bytes=first.total_bytes,
            vram_free_bytes=first.free_bytes,
            capability=first.capability,
            num_gpus=len(gpus),
            bf16_fast=first.capability >= (8, 0),
            **common,
        )
    else:
        machine = Machine(device="cpu", name=_processor_name(), vram_bytes=None, bf16_fast=_bf16_is_fast(), **common)
    if dtype is not None:
        machine = replace(machine, bf16_fast=dtype == "bfloat16")
    return with_rates(machine, home=surroundings.home)


def with_rates(machine: Machine, *, home: Path) -> Machine:
    """The machine with what was measured of it, else with what is known of its kind."""
    return replace(machine, rates=kept_rates(machine, home=home) or known_rates(machine, flags=_flags()))


def imagined_gpu(machine: Machine, *, vram_bytes: int) -> Machine:
    """A machine like this one with a usual GPU of so much memory."""
    other = replace(
        machine,
        device="cuda",
        name=f"a GPU with {vram_bytes / 1e9:g} GB",
        vram_bytes=vram_bytes,
        vram_free_bytes=None,
        capability=_USUAL_CAPABILITY,
        num_gpus=1,
        bf16_fast=True,
        limited=True,
    )
    return replace(other, rates=known_rates(other))


def usable_cpus() -> int:
    """Processors that this process may use: its affinity, cut by a container's quota."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _read(_CGROUP / "cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit() and quota[1].isdigit():
        cpus = min(cpus, math.ceil(int(quota[0]) / max(1, int(quota[1]))))
    return max(1, cpus)


def num_threads() -> int:
    """Threads that torch computes with: as it says itself once it is there, before that as it will."""
    torch = sys.modules.get("torch")
    if torch is not None:
        wanted = int(torch.get_num_threads())
    else:
        wanted = asked_threads() or usual_threads(read_environment().home) or _num_cores()
    return max(1, min(wanted, usable_cpus()))


def usable_ram_bytes() -> int:
    """Memory of the machine, cut by a container's limit."""
    limits = [_physical_ram_bytes()]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _read(_CGROUP / name)
        if text.isdigit():
            limits.append(int(text))
    return min(limits)


def free_ram_bytes() -> int | None:
    """Of that what nobody else holds now; pages of files that may be dropped count as free. None is not known."""
    free = [_memory_field(_read(Path("/proc/meminfo")), "MemAvailable:", unit=1024)]
    for limit, used, details in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        most, now = _read(_CGROUP / limit), _read(_CGROUP / used)
        if most.isdigit() and now.isdigit():
            stat = _read(_CGROUP / details)
            cached = _memory_field(stat, "inactive_file ") or _memory_field(stat, "total_inactive_file ") or 0
            free.append(max(0, int(most) - int(now) + cached))
    known = [value for value in free if value is not None]
    return min(known) if known else None


def _memory_field(text: str, name: str, *, unit: int = 1) -> int | None:
    found = [line.removeprefix(name).split()[0] for line in text.splitlines() if line.startswith(name)]
    return int(found[0]) * unit if found and found[0].isdigit() else None


def _physical_ram_bytes() -> int:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return _UNKNOWN_RAM_BYTES


def _free_disk_bytes(folder: Path) -> int | None:
    """Where models and jobs are kept, be the folder there already or not."""
    try:
        return shutil.disk_usage(next(each for each in (folder, *folder.parents) if each.exists())).free
    except (OSError, StopIteration):
        return None


def _num_cores() -> int:
    """Whole cores: two threads on one core gain nothing."""
    pairs, core = set(), ["", ""]
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        if line.startswith("physical id"):
            core[0] = line
        elif line.startswith("core id"):
            core[1] = line
            pairs.add(tuple(core))
    return len(pairs) or os.cpu_count() or 1


def _bf16_is_fast() -> bool:
    """Without AMX bfloat16 is slower than float32 on a processor."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return bool(torch.cpu._is_amx_tile_supported())
    return {"amx_tile", "amx_bf16"} <= _flags()


def _flags() -> frozenset[str]:
    """What the processor can do, as the system names it."""
    lines = (line for line in _read(Path("/proc/cpuinfo")).splitlines() if line.startswith("flags"))
    return frozenset(next(lines, "").partition(":")[2].split())


def _processor_name() -> str:
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "cpu"


def _read(path: Path) -> str:
    """The text of a file of the system, or nothing where there is no such file."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
