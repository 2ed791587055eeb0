"""Whether this machine has a CUDA GPU that homereel may use, without importing torch."""

from __future__ import annotations

import ctypes
import importlib.metadata
import sys
from functools import cache

from homereel.core.environment import read_environment


def has_cuda_gpu() -> bool:
    """HOMEREEL_DEVICE=cpu says no; else the driver is asked, and torch must not be a build for the CPU only."""
    return read_environment().device != "cpu" and not _torch_is_cpu_only() and _driver_sees_gpu()


@cache
def _torch_is_cpu_only() -> bool:
    try:
        return importlib.metadata.version("torch").endswith("+cpu")
    except importlib.metadata.PackageNotFoundError:
        return True


@cache
def _driver_sees_gpu() -> bool:
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count = ctypes.c_int(0)
        return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    except (OSError, AttributeError):
        return False
