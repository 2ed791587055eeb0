"""Processes that torchrun started are joined, not started again; and the format of numbers in which they compute."""

from __future__ import annotations

import socket

import pytest
import torch

from homereel.core.environment import Launcher, read_launcher
from homereel.core.errors import InvalidRequest
from homereel.training.ranks import Rank, spawn


def test_what_torchrun_says_is_read_or_refused() -> None:
    assert read_launcher({}) is None
    assert read_launcher({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}) == Launcher(3, 8, 1)
    with pytest.raises(InvalidRequest, match="LOCAL_RANK"):
        read_launcher({"RANK": "3", "WORLD_SIZE": "8"})


def test_work_joins_the_processes_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    ranks: list[Rank] = []
    try:
        for _ in range(2):  # one stage after the other
            spawn(ranks.append, count=7)
    finally:
        torch.distributed.destroy_process_group()
    assert [(rank.index, rank.count) for rank in ranks] == [(0, 1), (0, 1)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_trainings_compute_in_the_format_that_is_asked_for(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMEREEL_DTYPE", dtype)
    with Rank().autocast():
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == getattr(torch, dtype)
