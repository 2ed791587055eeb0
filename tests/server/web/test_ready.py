"""What the studio does before anybody looks: templates compiled, and the machine looked at by another process."""

from __future__ import annotations

import json

import pytest

from homereel.core.machine import Machine, Rates
from homereel.server.web import machine, render


def test_a_gpu_is_looked_at_by_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it prints goes through JSON, in which rates and capability are no longer what they were."""
    rates = Rates(1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5, 10.5)
    gpu = Machine("cuda", "a GPU", 8, 2**35, 2**34, True, capability=(8, 9), rates=rates)
    monkeypatch.setattr(machine, "has_cuda_gpu", lambda: True)
    monkeypatch.setattr(machine, "_PROBE", f"print({json.dumps(gpu.as_dict())!r})")
    assert machine._look() == gpu
    monkeypatch.setattr(machine, "_PROBE", "raise SystemExit(1)")
    assert machine._look() is None


def test_templates_are_ready_before_a_page_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    render._environment.cache_clear()
    render.make_ready()
    compiled: list[str] = []
    monkeypatch.setattr(type(render._environment()), "compile", lambda *given: compiled.append(given[2]))
    for template in render._folder().iterdir():
        render._environment().get_template(template.name)
    assert not compiled
