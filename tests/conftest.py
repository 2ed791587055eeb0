"""Fixtures for every room: tiny models that need no trained weights, and surroundings that cannot leak in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: tiny models gain nothing from more
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HOMEREEL_DTYPE"] = "float32"  # oracles are exact in it; what is of bfloat16 says so

import pytest

from tests.local_hub import LocalHub, run_hub
from tests.tiny_models import save_tiny_model

# A file is run by one process. These take longest and come first, so that none begins when all else is done.
LONG_FILES = (
    "kernels/test_interpreter.py",
    "training/exam/test_exam_reader.py",
    "engine/test_parity_hunyuan.py",
    "engine/test_parity_ltx.py",
    "models/test_contract.py",
    "training/test_trainers.py",
    "jobs/test_launcher.py",
    "passes/test_contract.py",
    "engine/test_ladder.py",
    "engine/test_parity_skyreels.py",
    "server/test_end_to_end.py",
    "training/distillation/test_trainer.py",
    "test_pocket_model.py",
    "benchmarks/test_gpu_wan.py",
    "models/test_ltx.py",
    "cli/test_stop.py",
    "jobs/test_processes.py",
    "training/exam/test_exam_run.py",
    "passes/test_session.py",
    "media/test_media_sound.py",
)


def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: many tests wait for a disk or for another process."""
    return (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1) + 1


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; all else stays in its order."""
    tests = Path(__file__).parent
    place = {tests / name: number for number, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(autouse=True)
def own_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No variable of the developer's shell decides a test, nothing is written into their home, and no test finds what
    another one's runs taught the ledger."""
    for name in [name for name in os.environ if name.startswith("HOMEREEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOMEREEL_HOME", str(tmp_path_factory.getbasetemp() / "homes" / uuid4().hex))
    monkeypatch.setenv("HOMEREEL_DEVICE", "cpu")
    monkeypatch.setenv("HOMEREEL_DTYPE", "float32")


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-to-video Wan of random weights, in diffusers layout: pass its path as the model."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny-wan"), first_frame=False)


@pytest.fixture(scope="session")
def tiny_image_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for a Wan that also takes a first frame."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny-wan-image"), first_frame=True)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalHub]:
    """A hub on this machine, which the real client takes for the only one; cache and home are empty."""
    from huggingface_hub import close_session, constants

    from homereel.weights import hub_download

    with run_hub() as running:
        for name, value in {
            "ENDPOINT": running.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": running.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_HUB_OFFLINE": False,
            "HF_TOKEN_PATH": str(tmp_path / "no-token"),
        }.items():
            monkeypatch.setattr(constants, name, value)
        for name, value in {
            "HF_ENDPOINT": running.url,
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_HUB_OFFLINE": "0",
            "HF_TOKEN_PATH": str(tmp_path / "no-token"),
            "HOMEREEL_HOME": str(tmp_path / "home"),
            "NO_PROXY": "127.0.0.1",
        }.items():
            monkeypatch.setenv(name, value)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(hub_download, "PAUSE_SECONDS", 0.01)
        close_session()
        yield running
        close_session()
