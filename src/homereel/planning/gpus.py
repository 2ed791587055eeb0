"""The CUDA GPUs of this machine, asked of the driver itself: no torch, and none of a GPU's memory is taken for it."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import Any

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR


@dataclass(frozen=True)
class Gpu:
    """One GPU; the first is the one that computes. `free_bytes` is None where the driver does not tell."""

    name: str
    capability: tuple[int, int]
    total_bytes: int
    free_bytes: int | None


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def list_gpus() -> tuple[Gpu, ...]:
    """In the order in which a program sees them (CUDA_VISIBLE_DEVICES counts); none without a driver."""
    driver = _library("nvcuda.dll", "libcuda.so.1")
    if driver is None or driver.cuInit(0) != 0:
        return ()
    count = ctypes.c_int(0)
    if driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return ()
    monitor = _library("nvml.dll", "libnvidia-ml.so.1")
    if monitor is not None and monitor.nvmlInit_v2() != 0:
        monitor = None
    try:
        return tuple(_gpu(driver, monitor, index) for index in range(count.value))
    finally:
        if monitor is not None:
            monitor.nvmlShutdown()


def _gpu(driver: Any, monitor: Any, index: int) -> Gpu:
    device, total, name = ctypes.c_int(0), ctypes.c_size_t(0), ctypes.create_string_buffer(256)
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, len(name), device)
    driver.cuDeviceTotalMem_v2(ctypes.byref(total), device)
    capability = []
    for attribute in (_MAJOR, _MINOR):
        value = ctypes.c_int(0)
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        capability.append(value.value)
    return Gpu(
        name=name.value.decode(errors="replace"),
        capability=(capability[0], capability[1]),
        total_bytes=total.value,
        free_bytes=_free_bytes(driver, monitor, device),
    )


def _free_bytes(driver: Any, monitor: Any, device: ctypes.c_int) -> int | None:
    if monitor is None:
        return None
    place, handle, memory = ctypes.create_string_buffer(32), ctypes.c_void_p(), _Memory()
    known = (
        driver.cuDeviceGetPCIBusId(place, len(place), device) == 0
        and monitor.nvmlDeviceGetHandleByPciBusId_v2(place, ctypes.byref(handle)) == 0
        and monitor.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) == 0
    )
    return int(memory.free) if known else None


def _library(windows: str, others: str) -> Any:
    """None where there is none of this name."""
    try:
        return ctypes.CDLL(windows if sys.platform == "win32" else others)
    except OSError:
        return None
