"""Looks at this machine: what computes, how many threads, how much memory this process may really use."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path

from homereel.core.environment import read_environment
from homereel.core.errors import InvalidRequest
from homereel.core.machine import Machine

_CGROUP = Path("/sys/fs/cgroup")
_UNKNOWN_RAM_BYTES = 8 * 1024**3


def probe_machine() -> Machine:
    """The machine as it is now. HOMEREEL_DEVICE chooses the device; else a GPU is taken if there is one."""
    import torch

    wanted = read_environment().device
    has_gpu = torch.cuda.is_available()
    if wanted == "cuda" and not has_gpu:
        raise InvalidRequest(
            "HOMEREEL_DEVICE is cuda, but torch finds no such GPU; unset it or use cpu",
            field="HOMEREEL_DEVICE",
        )
    threads = min(torch.get_num_threads(), usable_cpus())
    if has_gpu and wanted != "cpu":
        return Machine(
            device="cuda",
            name=torch.cuda.get_device_name(),
            num_threads=threads,
            ram_bytes=usable_ram_bytes(),
            vram_bytes=torch.cuda.get_device_properties(0).total_memory,
            bf16_fast=torch.cuda.get_device_capability() >= (8, 0),
        )
    return Machine(
        device="cpu",
        name=_processor_name(),
        num_threads=threads,
        ram_bytes=usable_ram_bytes(),
        vram_bytes=None,
        bf16_fast=bool(torch.cpu._is_amx_tile_supported()),  # without AMX bfloat16 is slower than float32
    )


def usable_cpus() -> int:
    """Processors that this process may use: its affinity, cut by a container's quota."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _read(_CGROUP / "cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit() and quota[1].isdigit():
        cpus = min(cpus, math.ceil(int(quota[0]) / max(1, int(quota[1]))))
    return max(1, cpus)


def usable_ram_bytes() -> int:
    """Memory of the machine, cut by a container's limit."""
    limits = [_physical_ram_bytes()]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _read(_CGROUP / name)
        if text.isdigit():
            limits.append(int(text))
    return min(limits)


def _physical_ram_bytes() -> int:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return _UNKNOWN_RAM_BYTES


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
