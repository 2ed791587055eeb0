"""Whether large models may be the default is found out without torch."""

from __future__ import annotations

import pytest

from homereel.core import gpu


@pytest.mark.parametrize(
    ("device", "cpu_build", "driver", "expected"),
    [("", False, True, True), ("cuda", False, True, True), ("cpu", False, True, False), ("", True, True, False),
     ("", False, False, False)],
)  # fmt: skip
def test_a_gpu_counts_if_it_is_wanted_and_torch_can_use_it(
    monkeypatch: pytest.MonkeyPatch, device: str, cpu_build: bool, driver: bool, expected: bool
) -> None:
    monkeypatch.setenv("HOMEREEL_DEVICE", device)
    monkeypatch.setattr(gpu, "_torch_is_cpu_only", lambda: cpu_build)
    monkeypatch.setattr(gpu, "_driver_sees_gpu", lambda: driver)
    assert gpu.has_cuda_gpu() is expected


def test_a_machine_without_the_driver_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr("ctypes.CDLL", no_driver)
    gpu._driver_sees_gpu.cache_clear()
    assert not gpu._driver_sees_gpu()
    gpu._driver_sees_gpu.cache_clear()
